"""Callbacks: checkpoints, metrics, reports; none of them changes the training itself, except ``ema``."""
