"""Pictures of what a model computes from images."""
