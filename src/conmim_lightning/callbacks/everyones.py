"""What all devices have noted, put together."""

from typing import Any

import torch


def everyones(trainer: Any, mine: list[Any]) -> list[Any]:
    """The entries of all devices."""
    if trainer.world_size == 1:
        return mine
    found: list[Any] = [None] * trainer.world_size
    torch.distributed.all_gather_object(found, mine)
    return [entry for part in found for entry in part]
