"""Classifiers that are fitted to frozen features once these have been computed."""
