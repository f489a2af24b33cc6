"""A full report on a collection of images."""
