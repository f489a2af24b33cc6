"""Profiling of the training step and of the data, and estimates of whole runs."""
