"""Agreement of all devices on the signal that stops a run."""

from typing import Any

import torch
from lightning import Trainer

_SIGTERM_CHECK = "_broadcast_sigterm_tensor"  # Lightning's method, called before each batch


def agreed_signal(trainer: Trainer, own: int) -> int:
    """Return the largest number of a signal that any device has received, 0 for none; all devices must call this.

    Args:
        trainer: the Trainer.
        own: signal that this process has received; 0 for none.
    """
    if trainer.world_size == 1:
        return own
    number = torch.tensor(float(own), device=trainer.strategy.root_device)
    return int(trainer.strategy.reduce(number, reduce_op="max"))  # type: ignore[arg-type]


def skip_sigterm_check(trainer: Any) -> None:
    """Disable Lightning's check for SIGTERM on other devices before each batch, because it waits for the GPU."""
    if trainer.world_size > 1:
        setattr(trainer.fit_loop.epoch_loop, _SIGTERM_CHECK, lambda: None)


def restore_sigterm_check(trainer: Any) -> None:
    """Enable the check again."""
    vars(trainer.fit_loop.epoch_loop).pop(_SIGTERM_CHECK, None)
