"""How the rate of the step and its memory grow with the batch, up to what the device holds."""

from collections.abc import Callable
from typing import Any

from conmim_lightning.speed.remote import OutOfMemoryError

_MULTIPLE = 8  # of a batch that is no power of two times the first


def largest_batch(small: tuple[int, int], large: tuple[int, int], limit: int) -> int:
    """Images that fit into memory, on the straight line through two measurements; 0 where not even their fixed part.

    Args:
        small: images and peak in bytes of one batch.
        large: of a larger one.
        limit: bytes there are.
    """
    slope = (large[1] - small[1]) / (large[0] - small[0])
    if slope <= 0:
        return large[0]
    return max(0, int((limit - large[1]) / slope) + large[0])


def sizes(make: Callable[[int], Any], first: int, limit: int, *, warmup: int, steps: int) -> list[dict[str, Any]]:
    """Doubles the batch while it fits, and ends with the largest that should.

    Args:
        make: makes a ``Remote`` of a ``Runner`` for a number of images.
        first: images of the smallest batch.
        limit: bytes there are.
        warmup: steps not counted.
        steps: that are.

    Returns:
        For each batch "batch_size", "step" (seconds of each) and "peak_bytes"; both None where the device ran out of
        memory, which ends the list.
    """
    found: list[dict[str, Any]] = []
    size = first
    while size:
        found.append(_measured(make, size, warmup, steps))
        if found[-1]["peak_bytes"] is None:
            break
        size = _next(found, limit)
    return found


def _measured(make: Callable[[int], Any], size: int, warmup: int, steps: int) -> dict[str, Any]:
    try:
        runner = make(size)
        runner.ask("steps", warmup)
        told = {"batch_size": size, "step": runner.ask("steps", steps)["step"], "peak_bytes": runner.ask("peak")}
    except OutOfMemoryError:
        return {"batch_size": size, "step": None, "peak_bytes": None}
    runner.end()
    return told


def _next(found: list[dict[str, Any]], limit: int) -> int:
    """The size to try after those found; 0 for none."""
    last = (found[-1]["batch_size"], found[-1]["peak_bytes"])
    if len(found) == 1:
        return 2 * last[0] if 2 * last[1] <= limit else 0
    before = (found[-2]["batch_size"], found[-2]["peak_bytes"])
    if last[0] != 2 * before[0]:
        return 0  # the largest has been tried
    most = largest_batch(before, last, limit)
    if most >= 2 * last[0]:
        return 2 * last[0]
    most -= most % _MULTIPLE
    return most if most > 1.1 * last[0] else 0
