"""CPU cores for loader processes."""

import os

_MOST = 16  # loader processes


def available_cores() -> int:
    """Number of CPU cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def loader_processes(num_workers: int | None) -> int:
    """Return a number of loader processes; for None, one per usable core, at most 16."""
    return min(available_cores(), _MOST) if num_workers is None else num_workers
