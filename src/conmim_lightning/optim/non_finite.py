"""Error and message for losses and gradients that are not finite."""

import math
from collections.abc import Mapping


class NonFiniteError(RuntimeError):
    """A loss or gradient is NaN or infinite.

    Args:
        message: text for the user.
        step: optimizer step in which it happened; None for the current step.
    """

    def __init__(self, message: str, step: int | None = None) -> None:
        super().__init__(message)
        self.step = step


def format_losses(by_rank: Mapping[int, tuple[list[float], list[int]]]) -> str:
    """Describe the ranks with a loss that is not finite, or all ranks if every loss is finite.

    Args:
        by_rank: per rank, losses of the batches since the last optimizer step, and the indices of their samples.
    """
    culprits = [rank for rank, (losses, _) in by_rank.items() if not all(map(math.isfinite, losses))] or list(by_rank)
    return "; ".join(f"loss {by_rank[rank][0]} of samples {by_rank[rank][1]} on rank {rank}" for rank in culprits)
