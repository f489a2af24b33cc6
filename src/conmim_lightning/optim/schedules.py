"""Schedules as pure functions of the optimizer step."""

import math


def cosine(step: int, *, total_steps: int, start: float, end: float) -> float:
    """Half a cosine from ``start`` at step 0 towards ``end``, which it would reach at step ``total_steps``."""
    progress = min(step, total_steps) / max(total_steps, 1)
    return end + 0.5 * (start - end) * (1 + math.cos(math.pi * progress))


def warmup_cosine(step: int, *, total_steps: int, warmup_steps: int, peak: float, end: float) -> float:
    """Linear from 0 to ``peak``, then half a cosine towards ``end``.

    official: the warm-up's last step (number warmup_steps - 1) already has the peak, and so has the cosine's first.

    Args:
        step: number of the optimizer step, from 0.
        total_steps: of the whole run, warm-up included.
        warmup_steps: 0 to total_steps.
        peak: largest value.
        end: value that the cosine approaches.
    """
    if step < warmup_steps:
        return peak * step / max(warmup_steps - 1, 1)
    return cosine(step - warmup_steps, total_steps=total_steps - warmup_steps, start=peak, end=end)
