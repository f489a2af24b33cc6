"""Throughput and memory by batch size, up to what the device can hold."""

from collections.abc import Callable

from conmim_lightning.profiling.worker import OutOfMemoryError, Worker
from conmim_lightning.runtime.results import Result

_MULTIPLE = 8  # divides a batch size that is not a power of two times the first
_WORTHWHILE = 1.1  # smallest ratio of the largest batch size to the previous one


def largest_batch(small: tuple[int, int], large: tuple[int, int], limit: int) -> int:
    """Return how many images fit into memory, by a line through two measurements; 0 if even the constant does not fit.

    Args:
        small: images and peak bytes of a small batch.
        large: images and peak bytes of a larger batch.
        limit: available memory in bytes.
    """
    slope = (large[1] - small[1]) / (large[0] - small[0])
    if slope <= 0:
        return large[0]
    return max(0, int((limit - large[1]) / slope) + large[0])


def scan_batch_sizes(make: Callable[[int], Worker], first: int, limit: int, *, warmup: int, steps: int) -> list[Result]:
    """Double the batch size while it fits, then try the largest that should fit.

    Args:
        make: function that starts a ``Worker`` of a ``Runner`` for a batch size.
        first: smallest batch size.
        limit: available memory in bytes.
        warmup: steps not counted.
        steps: steps counted.

    Returns:
        Per batch size: "batch_size", "step" (seconds of each step) and "peak_bytes"; the last two None if the device
        ran out of memory, which ends the list.
    """
    results: list[Result] = []
    size = first
    while size:
        results.append(_measure(make, size, warmup, steps))
        if results[-1]["peak_bytes"] is None:
            break
        size = _next_size(results, limit)
    return results


def _measure(make: Callable[[int], Worker], size: int, warmup: int, steps: int) -> Result:
    try:
        runner = make(size)
        runner.call("steps", warmup)
        seconds, peak = runner.call("steps", steps)["step"], runner.call("peak")
    except OutOfMemoryError:
        return {"batch_size": size, "step": None, "peak_bytes": None}
    runner.close()
    return {"batch_size": size, "step": seconds, "peak_bytes": peak}


def _next_size(results: list[Result], limit: int) -> int:
    """Return the batch size to try next; 0 if there is none."""
    last = (results[-1]["batch_size"], results[-1]["peak_bytes"])
    if len(results) == 1:
        return 2 * last[0] if 2 * last[1] <= limit else 0
    before = (results[-2]["batch_size"], results[-2]["peak_bytes"])
    if last[0] != 2 * before[0]:
        return 0  # the largest has been tried
    largest = largest_batch(before, last, limit)
    if largest >= 2 * last[0]:
        return 2 * last[0]
    largest -= largest % _MULTIPLE
    return largest if largest > _WORTHWHILE * last[0] else 0
