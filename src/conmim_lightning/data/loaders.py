"""Data loaders."""

from typing import Any

import torch
from torch import get_num_threads, set_num_threads
from torch.utils.data import DataLoader

from conmim_lightning.data.datasets.base import ImageDataset
from conmim_lightning.data.samplers.epoch import ResumableSampler
from conmim_lightning.signals import outlive_first_signal


def start_worker(_: int) -> None:
    """Limit a worker to one thread, since workers share the cores; let it outlive the first stop signal."""
    outlive_first_signal()
    if get_num_threads() > 1:
        set_num_threads(1)


def train_loader(
    dataset: ImageDataset[Any], *, sampler: ResumableSampler, batch_size: int, num_workers: int, pin_memory: bool
) -> DataLoader[Any]:
    """Return a loader of full batches, in the sampler's order."""
    return DataLoader(
        dataset,
        batch_size=batch_size,
        sampler=sampler,
        num_workers=num_workers,
        pin_memory=pin_memory,
        drop_last=True,
        collate_fn=dataset.collate,
        worker_init_fn=start_worker,
        persistent_workers=num_workers > 0,
    )


def evaluation_loader(
    dataset: ImageDataset[Any],
    *,
    batch_size: int,
    num_workers: int,
    rank: int = 0,
    num_devices: int = 1,
    limit: int | None = None,
) -> DataLoader[Any]:
    """Return a loader of all images in order; device r of R loads images r, r + R, r + 2R, ... .

    Args:
        dataset: dataset to load.
        batch_size: images per batch and device.
        num_workers: loader processes.
        rank: rank r of this device, 0 to R - 1.
        num_devices: number of devices R.
        limit: largest number of images, evenly spaced over the dataset; None for all.
    """
    count = len(dataset) if limit is None else min(len(dataset), limit)
    indices = [position * len(dataset) // count for position in range(rank, count, num_devices)]
    return DataLoader(
        dataset,
        batch_size=batch_size,
        sampler=indices,
        num_workers=num_workers,
        worker_init_fn=start_worker,
        collate_fn=dataset.collate,
        generator=torch.Generator(),  # otherwise the loader draws from the global one, which training uses
    )
