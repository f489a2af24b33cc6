"""How many operations a training step takes, counted as torch runs it."""

from typing import Any

import torch
from torch import Tensor
from torch.utils.flop_counter import FlopCounterMode


def step_operations(task: Any, view: Tensor, mask: Tensor) -> dict[str, int]:
    """Operations (a multiply-add counts 2) of matrix products and convolutions, for a batch.

    Args:
        task: a ``PretrainTask``.
        view: (B, C, H, W) normalised, B at least 2.
        mask: (B, h, w).

    Returns:
        "teacher", "student" (forward), "loss" and "backward".
    """
    found = {}
    with FlopCounterMode(display=False) as counter:
        keys = task.model.teach(view)
    found["teacher"] = counter.get_total_flops()
    with FlopCounterMode(display=False) as counter:
        queries = task.model.student(view, mask)
    found["student"] = counter.get_total_flops()
    with FlopCounterMode(display=False) as counter:
        loss = task.loss(queries, keys, mask)
    found["loss"] = counter.get_total_flops()
    with FlopCounterMode(display=False) as counter, torch.enable_grad():
        loss.backward()
    found["backward"] = counter.get_total_flops()
    return found
