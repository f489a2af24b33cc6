"""How many operations a training step takes, counted as torch runs it."""

from collections.abc import Callable
from typing import Any

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
    keys, teacher = _counted(lambda: task.model.teach(view))
    queries, student = _counted(lambda: task.model.student(view, mask))
    loss, of_loss = _counted(lambda: task.loss(queries, keys, mask))
    _, backward = _counted(lambda: loss.backward())
    return {"teacher": teacher, "student": student, "loss": of_loss, "backward": backward}


def _counted(call: Callable[[], Any]) -> tuple[Any, int]:
    """What a call returns, and its operations."""
    with FlopCounterMode(display=False) as counter:
        result = call()
    return result, counter.get_total_flops()
