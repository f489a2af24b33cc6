"""Collections of images, wherever they are stored."""
