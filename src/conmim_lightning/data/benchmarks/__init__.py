"""How fast images come, against the official pipeline's work in the same run."""
