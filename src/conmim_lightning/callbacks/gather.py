"""Gathering of Python objects from all devices."""

from typing import TypeVar

import torch
from lightning import Trainer

T = TypeVar("T")


def gather_objects(trainer: Trainer, own: list[T]) -> list[T]:
    """Concatenate the lists of all devices, in the order of ranks."""
    if trainer.world_size == 1:
        return own
    lists: list[list[T]] = [[]] * trainer.world_size
    torch.distributed.all_gather_object(lists, own)
    return [entry for entries in lists for entry in entries]
