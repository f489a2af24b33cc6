"""Optimizer and schedule of a task that has a plan."""

from typing import Any

from lightning.pytorch.utilities import rank_zero_info


def planned(task: Any) -> Any:
    """What ``configure_optimizers`` returns: optimizer and schedule, told in a line.

    Args:
        task: with a ``plan`` and ``make_optimizer``, under a trainer.
    """
    optimizer = task.make_optimizer(task.plan.effective_batch(task.trainer))
    rank_zero_info(task.plan.told(optimizer, task.trainer))
    return task.plan.scheduled(optimizer, task.trainer)
