"""The order in which images are read."""
