"""Exponential moving average of the weights, used for validation, test and checkpoints."""

from lightning.pytorch.callbacks import WeightAveraging
from torch import Tensor


class WarmupEMA(WeightAveraging):
    """Lightning's ``WeightAveraging`` with a decay that starts at 0.1 and grows, so that short runs average, too.

    After n updates the decay is min(``decay``, (1 + n) / (10 + n)), as in timm and TensorFlow. Checkpoints
    contain the average under "state_dict" and the trained weights under "current_model_state".

    Args:
        decay: largest decay per update, in [0, 1).

    Raises:
        ValueError: decay is out of its range.
    """

    def __init__(self, decay: float = 0.9999) -> None:
        if not 0 <= decay < 1:
            raise ValueError(f"decay of the average must lie in [0, 1), got {decay}")
        self.decay = decay
        super().__init__(avg_fn=self._average)

    def _average(self, average: Tensor, current: Tensor, updates: Tensor | int) -> Tensor:
        decay = min(self.decay, float((1 + updates) / (10 + updates)))
        return average + (1 - decay) * (current - average)
