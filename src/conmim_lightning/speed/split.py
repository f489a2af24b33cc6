"""Where the time of a step goes."""

import statistics
import time
from collections.abc import Callable, Sequence

import torch

from conmim_lightning.speed.device import wait


def split(
    step: Callable[[Callable[[str], None]], object], parts: Sequence[str], device: torch.device, count: int
) -> dict[str, float]:
    """Median seconds of each part of a step.

    Args:
        step: takes a function that it calls with the name of each part that has ended.
        parts: their names, in order.
        device: is waited for after each part.
        count: steps, at least 1.
    """
    found: dict[str, list[float]] = {part: [] for part in parts}
    for _ in range(count):
        wait(device)
        last = [time.perf_counter()]

        def mark(part: str, last: list[float] = last) -> None:
            wait(device)
            now = time.perf_counter()
            found[part].append(now - last[0])
            last[0] = now

        step(mark)
    return {part: statistics.median(values) for part, values in found.items()}
