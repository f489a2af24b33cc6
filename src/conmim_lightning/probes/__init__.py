"""Classifiers of frozen features that are computed once."""
