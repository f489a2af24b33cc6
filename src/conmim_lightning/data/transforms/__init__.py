"""Transforms from images to the tensors of pre-training and downstream tasks."""
