"""Schedules as pure functions of the optimizer step."""

import math
from collections.abc import Callable

_RAMP_START = 1e-6
_MILESTONES = (8 / 9, 26 / 27)


def cosine(step: float, *, total_steps: int, start: float, end: float) -> float:
    """Return the value at ``step`` of half a cosine from ``start`` at step 0 to ``end`` at step ``total_steps``."""
    progress = min(step, total_steps) / max(total_steps, 1)
    return end + 0.5 * (start - end) * (1 + math.cos(math.pi * progress))


def warmup_cosine(step: float, *, total_steps: int, warmup_steps: int, peak: float, end: float) -> float:
    """Return the value at ``step`` of a linear warm-up from 0 to ``peak``, followed by half a cosine towards ``end``.

    official: the last step of the warm-up (warmup_steps - 1) and the first step of the cosine both have value ``peak``.

    Args:
        step: index of the optimizer step, from 0; it may be fractional after a resume with another batch size.
        total_steps: optimizer steps of the whole run, warm-up included.
        warmup_steps: optimizer steps of the warm-up, 0 to total_steps.
        peak: largest value.
        end: value that the cosine approaches.
    """
    if step < warmup_steps:
        return peak * step / max(warmup_steps - 1, 1)
    return cosine(step - warmup_steps, total_steps=total_steps - warmup_steps, start=peak, end=end)


def warmup_poly(step: float, *, total_steps: int, warmup_steps: int, peak: float, end: float) -> float:
    """Return the value at ``step`` of a linear decay from ``peak`` to ``end``, multiplied by a linear warm-up ramp.

    As in mmsegmentation (power 1), which BEiT's segmentation uses: the ramp rises from 1e-6 to 1. The arguments are
    those of ``warmup_cosine``; the decay spans the whole run and reaches ``end`` at ``total_steps``.
    """
    line = end + (peak - end) * (1 - min(step, total_steps) / max(total_steps, 1))
    if step < warmup_steps:
        return line * (1 - (1 - step / warmup_steps) * (1 - _RAMP_START))
    return line


def warmup_multistep(step: float, *, total_steps: int, warmup_steps: int, peak: float, end: float) -> float:
    """Return the value at ``step`` of a linear warm-up from ``peak`` / 1000, divided by 10 at 8/9 and 26/27 of the run.

    As in ViTDet (arXiv 2203.16527). The arguments are those of ``warmup_cosine``; values never fall below ``end``.
    """
    if step < warmup_steps:
        return peak * (0.001 + 0.999 * step / warmup_steps)
    drops = sum(step >= round(milestone * total_steps) for milestone in _MILESTONES)
    return max(end, peak * 0.1**drops)


SCHEDULES: dict[str, Callable[..., float]] = {
    "cosine": warmup_cosine,
    "poly": warmup_poly,
    "multistep": warmup_multistep,
}
"""Learning rate schedules by name."""
