"""What tasks do around an optimizer step, each in a line."""

from typing import Any

import torch
from torch import nn

from conmim_lightning.optim.non_finite import NonFiniteError
from conmim_lightning.randomness import stream_seed


def seed_step(task: Any, seed: int) -> int:
    """Seed torch's global generator from seed, batch and device alone, however the run was cut; returns that seed."""
    found = stream_seed(seed, task.trainer.fit_loop.epoch_loop.total_batch_idx, task.global_rank)
    torch.manual_seed(found >> 1)
    return found


def clip_gradients(task: Any, value: float | None) -> None:
    """Clip by the global norm, log the norm before clipping; NonFiniteError for one that is not finite."""
    norm = nn.utils.clip_grad_norm_(task.parameters(), value or torch.inf)
    task.log("optim/grad_norm", norm)
    if getattr(task.trainer.precision_plugin, "scaler", None) is None and not torch.isfinite(norm):
        raise NonFiniteError(f"gradient norm {norm.item()} at step {task.global_step} in epoch {task.current_epoch}")


def log_rate(task: Any) -> None:
    """Log the head's learning rate with the step it is of."""
    task.log("optim/lr", max(group["lr"] for group in task.trainer.optimizers[0].param_groups))
