"""How long a run is and at which rate it learns, in numbers that a user gives and in optimizer steps."""

from collections.abc import Callable
from typing import Any

from torch.optim import Optimizer

from conmim_lightning.optim.schedules import SHAPES
from conmim_lightning.optim.wiring import Scaling, build_optimizer, scaled_rate, schedule_rate


class Plan:
    """Length and warm-up, batch and rate; turned into steps by the trainer's counts.

    Args:
        optimizer: factory that takes parameter groups; carries the peak learning rate and the weight decay.
        batch_size: images a step and device.
        length: planned, in epochs or in optimizer steps, > 0; with the trainer's step count it turns ``warmup`` into
            steps.
        warmup: in the same unit, 0 to length.
        min_lr: learning rate that the schedule approaches, at ``reference_batch`` when scaled.
        lr_scaling: "none", or "linear" in effective batch over ``reference_batch``.
        reference_batch: images per optimizer step that the learning rate was chosen for.
        shape: course of the learning rate, "cosine", "poly" or "multistep".

    Raises:
        ValueError: a number is out of its range.
    """

    def __init__(
        self,
        *,
        optimizer: Callable[..., Optimizer],
        batch_size: int,
        length: float,
        warmup: float,
        min_lr: float,
        lr_scaling: Scaling = "none",
        reference_batch: int,
        shape: str = "cosine",
    ) -> None:
        if not 0 <= warmup <= length or length <= 0:
            raise ValueError(f"schedule needs a warm-up from 0 to its length, got {warmup} and {length}")
        if shape not in SHAPES:
            raise ValueError(f"schedule.shape must be one of {list(SHAPES)}, got {shape!r}")
        if min_lr < 0:
            raise ValueError(f"min_lr must be at least 0, got {min_lr}")
        scaled_rate(1.0, scaling=lr_scaling, effective_batch=batch_size, reference_batch=reference_batch)  # refuses
        self.factory = optimizer
        self.batch_size = batch_size
        self.length = length
        self.warmup = warmup
        self.shape = shape
        self.min_lr = min_lr
        self.lr_scaling: Scaling = lr_scaling
        self.reference_batch = reference_batch

    def optimizer(self, groups: list[dict[str, Any]], effective_batch: int) -> Optimizer:
        """The optimizer for a number of images per step."""
        return build_optimizer(
            self.factory,
            groups,
            scaling=self.lr_scaling,
            effective_batch=effective_batch,
            reference_batch=self.reference_batch,
        )

    def scheduled(self, optimizer: Optimizer, trainer: Any) -> dict[str, Any]:
        """Optimizer and rate schedule, as ``configure_optimizers`` returns them."""
        end = self.min_lr * self._scale(trainer)
        total, warmup = self.total_steps(trainer), self.warmup_steps(trainer)
        return schedule_rate(optimizer, total_steps=total, warmup_steps=warmup, end=end, shape=self.shape)

    def effective_batch(self, trainer: Any) -> int:
        """Images per optimizer step, over all devices and accumulated batches."""
        return self.batch_size * trainer.world_size * trainer.accumulate_grad_batches

    def total_steps(self, trainer: Any) -> int:
        """Optimizer steps of the whole run.

        Raises:
            ValueError: the run has no end.
        """
        steps = trainer.estimated_stepping_batches
        if steps == float("inf") or steps < 1:
            raise ValueError("the schedule needs an end: set schedule.epochs, schedule.steps or trainer.max_steps")
        return int(steps)

    def warmup_steps(self, trainer: Any) -> int:
        """Optimizer steps of the warm-up."""
        return round(self.total_steps(trainer) * self.warmup / self.length)

    def told(self, optimizer: Optimizer, trainer: Any) -> str:
        """Batch, rate and steps in a line."""
        rate = max(group["lr"] for group in optimizer.param_groups)
        return (
            f"effective batch {self.effective_batch(trainer)} = {self.batch_size} a device x {trainer.world_size} "
            f"devices x {trainer.accumulate_grad_batches} accumulated; peak learning rate {rate:.6g} "
            f"(scaling {self.lr_scaling}: x {self._scale(trainer):.6g}); {self.total_steps(trainer)} steps, "
            f"{self.warmup_steps(trainer)} of warm-up{self._told_reference(trainer)}"
        )

    def _told_reference(self, trainer: Any) -> str:
        if self.lr_scaling != "none" or self.effective_batch(trainer) == self.reference_batch:
            return ""
        return f"; the rate was chosen for a batch of {self.reference_batch}, schedule.lr_scaling=linear would scale it"

    def _scale(self, trainer: Any) -> float:
        if self.lr_scaling == "none":
            return 1.0
        return self.effective_batch(trainer) / self.reference_batch
