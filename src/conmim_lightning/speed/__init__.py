"""How fast a training step is, and what it is compared with."""
