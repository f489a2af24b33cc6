"""Images a second that a loader delivers when nobody else wants the cores."""

import time
from collections.abc import Iterable, Iterator
from typing import Any


def loader_seconds(loader: Iterable[Any], *, warmup: int, groups: int, group: int) -> list[float]:
    """Seconds of each of some groups of batches; over as many epochs as that takes.

    Args:
        loader: a ``DataLoader``.
        warmup: batches not counted: those that its processes prepare ahead come at once.
        groups: to time.
        group: batches of each; processes deliver in bursts of as many as there are of them.
    """
    batches = _endless(loader)
    for _ in range(warmup):
        next(batches)
    found = []
    for _ in range(groups):
        started = time.perf_counter()
        for _ in range(group):
            next(batches)
        found.append(time.perf_counter() - started)
    return found


def _endless(loader: Iterable[Any]) -> Iterator[Any]:
    while True:
        yield from loader
