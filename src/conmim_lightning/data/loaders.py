"""Data loaders with the settings that suit this project."""

from collections.abc import Callable
from typing import Any

import torch
from torch import get_num_threads, set_num_threads
from torch.utils.data import DataLoader, Dataset, default_collate

from conmim_lightning.data.sampler import Resumable


def one_thread(_: int) -> None:
    """Workers share the cores; none may take all of them."""
    if get_num_threads() > 1:
        set_num_threads(1)


def train_loader(
    dataset: Dataset[Any],
    *,
    sampler: Resumable,
    batch_size: int,
    num_workers: int,
    pin_memory: bool,
    collate: Callable[[list[Any]], Any] = default_collate,
) -> DataLoader[Any]:
    """Whole batches of the samples that the sampler names."""
    return DataLoader(
        dataset,
        batch_size=batch_size,
        sampler=sampler,
        num_workers=num_workers,
        pin_memory=pin_memory,
        drop_last=True,
        collate_fn=collate,
        worker_init_fn=one_thread,
        persistent_workers=num_workers > 0,
    )


def collate_readable(samples: list[Any]) -> Any:
    """A batch of the samples that could be read; None if there is none."""
    readable = [sample for sample in samples if sample is not None]
    return default_collate(readable) if readable else None


def evaluation_loader(
    dataset: Dataset[Any],
    *,
    batch_size: int,
    num_workers: int,
    rank: int,
    num_devices: int,
    limit: int | None = None,
    collate: Callable[[list[Any]], Any] = collate_readable,
) -> DataLoader[Any]:
    """Batches of every sample once over all devices, in order; device r of R takes the r-th, (r + R)-th, ... .

    Args:
        dataset: takes whole numbers from 0.
        batch_size: samples a batch and device.
        num_workers: loader processes.
        rank: r.
        num_devices: R.
        limit: at most this many samples, evenly spaced over the dataset; None takes all.
        collate: makes a batch of samples.
    """
    size = len(dataset)  # type: ignore[arg-type]
    count = size if limit is None else min(size, limit)
    mine = [place * size // count for place in range(rank, count, num_devices)]
    return DataLoader(
        dataset,
        batch_size=batch_size,
        sampler=mine,
        num_workers=num_workers,
        worker_init_fn=one_thread,
        collate_fn=collate,
        generator=torch.Generator(),  # the global one belongs to training
    )
