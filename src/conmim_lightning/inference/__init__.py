"""Trained models for use in other programs."""
