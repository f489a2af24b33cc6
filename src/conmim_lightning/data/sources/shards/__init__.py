"""Collections of images in tar archives."""
