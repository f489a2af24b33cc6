"""CPU cores for loader processes."""

from conmim_lightning.cores import available_cores

_MOST = 16  # loader processes


def loader_processes(num_workers: int | None) -> int:
    """Return a number of loader processes; for None, one per usable core, at most 16."""
    return min(available_cores(), _MOST) if num_workers is None else num_workers
