"""Functions that build the optimizer and the learning rate schedule from factories and numbers."""

from collections.abc import Callable
from typing import Any, Literal

from torch.optim import Optimizer

from conmim_lightning.optim.param_groups import ParamGroups
from conmim_lightning.optim.resumable_lr import Plan, ResumableLR
from conmim_lightning.optim.schedules import SCHEDULES

Scaling = Literal["none", "linear"]
OptimizerFactory = Callable[[ParamGroups], Optimizer]
"""Factory that takes parameter groups; it holds the peak learning rate and the weight decay."""


def scale_lr(lr: float, *, scaling: Scaling, effective_batch: int, base_batch_size: int) -> float:
    """Scale a learning rate to the batch size.

    Args:
        lr: learning rate at ``base_batch_size``.
        scaling: "none" returns ``lr``; "linear" multiplies it by effective_batch / base_batch_size.
        effective_batch: images per optimizer step, over all devices and accumulated batches.
        base_batch_size: images per optimizer step that ``lr`` was chosen for.

    Raises:
        ValueError: unknown scaling, or a number that is not positive.
    """
    if lr <= 0 or base_batch_size < 1:
        raise ValueError(f"learning rate and base_batch_size must be positive, got {lr} and {base_batch_size}")
    if scaling == "none":
        return lr
    if scaling == "linear":
        return lr * effective_batch / base_batch_size
    raise ValueError(f"lr_scaling must be 'none' or 'linear', got {scaling!r}")


def build_optimizer(
    factory: OptimizerFactory, groups: ParamGroups, *, scaling: Scaling, effective_batch: int, base_batch_size: int
) -> Optimizer:
    """Build an optimizer with learning rates scaled to the batch size and by each group's ``lr_scale``.

    Args:
        factory: factory that takes the groups.
        groups: parameter groups; a group's ``lr_scale``, if present, multiplies its learning rate.
        scaling: see ``scale_lr``.
        effective_batch: see ``scale_lr``.
        base_batch_size: see ``scale_lr``.
    """
    optimizer = factory(groups)
    for group in optimizer.param_groups:
        lr = scale_lr(group["lr"], scaling=scaling, effective_batch=effective_batch, base_batch_size=base_batch_size)
        group["lr"] = lr * group.get("lr_scale", 1.0)
    return optimizer


def lr_scheduler(
    optimizer: Optimizer,
    *,
    plan: Plan,
    warmup_steps: int,
    min_lr: float,
    name: str = "cosine",
    report: Callable[[str], object] = print,
) -> ResumableLR:
    """Return the scheduler that sets the learning rate of every group after each optimizer step.

    Args:
        optimizer: optimizer whose groups hold the peak learning rates.
        plan: length of the run.
        warmup_steps: optimizer steps of the linear warm-up, 0 to the planned steps.
        min_lr: learning rate at the end, to be multiplied by a group's ``lr_scale``.
        name: one of ``SCHEDULES``.
        report: receives a line if a resumed run has another plan.
    """
    total_steps = plan.total_steps

    def factor(group: dict[str, Any]) -> Callable[[float], float]:
        peak, end = group["lr"], min_lr * group.get("lr_scale", 1.0)
        return lambda step: (
            SCHEDULES[name](step, total_steps=total_steps, warmup_steps=warmup_steps, peak=peak, end=end) / peak
        )

    return ResumableLR(optimizer, [factor(group) for group in optimizer.param_groups], plan=plan, report=report)
