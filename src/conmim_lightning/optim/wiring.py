"""The arithmetic of batch and rate, and the rate's schedule as Lightning wants it."""

from collections.abc import Callable
from typing import Any, Literal

from torch.optim import Optimizer
from torch.optim.lr_scheduler import LambdaLR

from conmim_lightning.optim.schedules import SHAPES

Scaling = Literal["none", "linear"]


def scaled_rate(rate: float, *, scaling: Scaling, effective_batch: int, reference_batch: int) -> float:
    """Learning rate for a batch.

    Args:
        rate: learning rate at ``reference_batch``.
        scaling: "none" returns the rate itself; "linear" multiplies by effective_batch / reference_batch.
        effective_batch: images per optimizer step, over all devices and accumulation steps.
        reference_batch: images per optimizer step that the rate was chosen for.

    Raises:
        ValueError: unknown scaling, or a number that is not positive.
    """
    if rate <= 0 or reference_batch < 1:
        raise ValueError(f"learning rate and reference_batch must be positive, got {rate} and {reference_batch}")
    if scaling == "none":
        return rate
    if scaling == "linear":
        return rate * effective_batch / reference_batch
    raise ValueError(f"lr_scaling must be 'none' or 'linear', got {scaling!r}")


def build_optimizer(
    factory: Callable[..., Optimizer],
    groups: list[dict[str, Any]],
    *,
    scaling: Scaling,
    effective_batch: int,
    reference_batch: int,
) -> Optimizer:
    """Optimizer from a factory that carries its own rate, with the rate scaled to the batch and to ``lr_scale``.

    Args:
        factory: takes the groups.
        groups: of parameters; one may have an ``lr_scale``, which multiplies its rate.
        scaling: see ``scaled_rate``.
        effective_batch: see ``scaled_rate``.
        reference_batch: see ``scaled_rate``.
    """
    optimizer = factory(groups)
    for group in optimizer.param_groups:
        rate = scaled_rate(
            group["lr"], scaling=scaling, effective_batch=effective_batch, reference_batch=reference_batch
        )
        group["lr"] = rate * group.get("lr_scale", 1.0)
    return optimizer


def schedule_rate(
    optimizer: Optimizer, *, total_steps: int, warmup_steps: int, end: float, shape: str = "cosine"
) -> dict[str, Optimizer | dict[str, Any]]:
    """Warm-up and fall per optimizer step, for what ``configure_optimizers`` returns.

    Args:
        optimizer: its groups' rates are the peaks.
        total_steps: optimizer steps of the whole run.
        warmup_steps: 0 to total_steps.
        end: rate that the course approaches, before a group's ``lr_scale``.
        shape: one of ``SHAPES``.
    """

    def factor(group: dict[str, Any]) -> Callable[[int], float]:
        peak, last = group["lr"], end * group.get("lr_scale", 1.0)
        return lambda step: (
            SHAPES[shape](step, total_steps=total_steps, warmup_steps=warmup_steps, peak=peak, end=last) / peak
        )

    scheduler = LambdaLR(optimizer, [factor(group) for group in optimizer.param_groups])
    return {"optimizer": optimizer, "lr_scheduler": {"scheduler": scheduler, "interval": "step"}}
