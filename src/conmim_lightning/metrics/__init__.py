"""Metrics of features, of downstream tasks and of the pretext task."""
