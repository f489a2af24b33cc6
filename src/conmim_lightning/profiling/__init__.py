"""Time and memory: of the training step, of the data, and of a whole run in advance."""
