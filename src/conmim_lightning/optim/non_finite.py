"""Losses and gradients that are not finite."""

import math
from collections.abc import Mapping


class NonFiniteError(RuntimeError):
    """A loss or gradient is NaN or infinite.

    Args:
        message: what is to be told.
        step: number of the optimizer step that it is of; None where that is the current one.
    """

    def __init__(self, message: str, step: int | None = None) -> None:
        super().__init__(message)
        self.step = step


def told_losses(parts: Mapping[int, tuple[list[float], list[int]]]) -> str:
    """A sentence on the devices whose loss is not finite, or on all of them if every loss is finite.

    Args:
        parts: by rank, the losses of the batches since the last optimizer step and the numbers of their samples.
    """
    culprits = [rank for rank, (losses, _) in parts.items() if not all(map(math.isfinite, losses))] or list(parts)
    return "; ".join(f"loss {parts[rank][0]} of samples {parts[rank][1]} on rank {rank}" for rank in culprits)
