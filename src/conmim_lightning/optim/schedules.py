"""Schedules as pure functions of the optimizer step."""

import math
from collections.abc import Callable

_LEAST_RAMP = 1e-6
_DROPS = (8 / 9, 26 / 27)


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


def warmup_poly(step: int, *, total_steps: int, warmup_steps: int, peak: float, end: float) -> float:
    """A straight line from ``peak`` to ``end`` over the whole run, multiplied with a ramp at its beginning.

    As in mmsegmentation (power 1), which BEiT's segmentation uses: the ramp grows from a millionth to 1.

    Args:
        step: number of the optimizer step, from 0.
        total_steps: of the whole run, warm-up included.
        warmup_steps: 0 to total_steps.
        peak: value that the line begins with.
        end: value that it reaches at ``total_steps``.
    """
    line = end + (peak - end) * (1 - min(step, total_steps) / max(total_steps, 1))
    if step < warmup_steps:
        return line * (1 - (1 - step / warmup_steps) * (1 - _LEAST_RAMP))
    return line


def warmup_multistep(step: int, *, total_steps: int, warmup_steps: int, peak: float, end: float) -> float:
    """Linear from a thousandth to ``peak``, then a tenth of it from 8/9 of the run on, a hundredth from 26/27 on.

    As in ViTDet (arXiv 2203.16527). The arguments are those of ``warmup_poly``; nothing falls below ``end``.
    """
    if step < warmup_steps:
        return peak * (0.001 + 0.999 * step / warmup_steps)
    drops = sum(step >= round(share * total_steps) for share in _DROPS)
    return max(end, peak * 0.1**drops)


SHAPES: dict[str, Callable[..., float]] = {
    "cosine": warmup_cosine,
    "poly": warmup_poly,
    "multistep": warmup_multistep,
}
"""Courses of the learning rate by name."""
