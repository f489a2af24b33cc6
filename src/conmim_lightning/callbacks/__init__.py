"""Callbacks for checkpoints, metrics and reports; only ``ema`` changes the training itself."""
