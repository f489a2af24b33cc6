"""Schedule of a run: length, warm-up, learning rate, clipping and teacher momentum."""

from collections.abc import Callable
from typing import Protocol

from torch.optim import Optimizer

from conmim_lightning.optim.build import OptimizerFactory, Scaling, build_optimizer, lr_scheduler, scale_lr
from conmim_lightning.optim.param_groups import ParamGroups
from conmim_lightning.optim.resumable_lr import Plan, ResumableLR
from conmim_lightning.optim.schedules import SCHEDULES, cosine


class StepCounts(Protocol):
    """Attributes of Lightning's Trainer that a schedule reads."""

    @property
    def world_size(self) -> int:
        """Number of devices."""
        ...

    @property
    def accumulate_grad_batches(self) -> int:
        """Batches per optimizer step."""
        ...

    @property
    def max_epochs(self) -> int | None:
        """Epochs of the whole run; None or negative without a limit."""
        ...

    @property
    def max_steps(self) -> int:
        """Largest number of optimizer steps; negative without a limit."""
        ...

    @property
    def estimated_stepping_batches(self) -> int | float:
        """Optimizer steps of the whole run."""
        ...


class Schedule:
    """Length and warm-up of a run, in epochs or in optimizer steps, with learning rate scaling, decay and clipping.

    The length only sets the fraction of the run that is warm-up; the Trainer's ``max_epochs`` or ``max_steps`` ends it.

    Args:
        epochs: planned length in epochs, > 0; null if it is given in ``steps``.
        warmup_epochs: length of the linear warm-up in epochs, 0 to ``epochs``.
        steps: planned length in optimizer steps, > 0; null if it is given in ``epochs``.
        warmup_steps: length of the linear warm-up in optimizer steps, 0 to ``steps``.
        name: shape of the decay: "cosine", "poly" or "multistep", see ``optim.schedules``.
        min_lr: learning rate at the end, at ``base_batch_size`` if scaled.
        lr_scaling: "none", or "linear", which multiplies by effective batch over ``base_batch_size``.
        base_batch_size: images per optimizer step that the learning rate was chosen for.
        accumulate_grad_batches: batches per optimizer step; the Trainer's number must be the same.
        max_grad_norm: largest global norm of the gradient, > 0; null for no clipping.

    Raises:
        ValueError: a number is out of its range.
    """

    def __init__(
        self,
        *,
        epochs: float | None = None,
        warmup_epochs: float = 0,
        steps: int | None = None,
        warmup_steps: int = 0,
        name: str = "cosine",
        min_lr: float = 0.0,
        lr_scaling: Scaling = "none",
        base_batch_size: int = 1024,
        accumulate_grad_batches: int = 1,
        max_grad_norm: float | None = None,
    ) -> None:
        if (epochs is None) == (steps is None):
            raise ValueError(f"a schedule needs epochs or steps, and not both; got {epochs} and {steps}")
        length, warmup = (epochs, warmup_epochs) if steps is None else (steps, warmup_steps)
        unit = "epochs" if steps is None else "steps"
        if length is None or length <= 0:
            raise ValueError(f"schedule.{unit} must be above 0, got {length}")
        if not 0 <= warmup <= length:
            raise ValueError(f"schedule.warmup_{unit} must lie between 0 and {unit}, {length}, got {warmup}")
        if name not in SCHEDULES:
            raise ValueError(f"schedule.name must be one of {list(SCHEDULES)}, got {name!r}")
        if min_lr < 0:
            raise ValueError(f"schedule.min_lr must be at least 0, got {min_lr}")
        if not isinstance(accumulate_grad_batches, int) or accumulate_grad_batches < 1:
            raise ValueError(
                f"schedule.accumulate_grad_batches must be an integer of at least 1, got {accumulate_grad_batches!r}"
            )
        if max_grad_norm is not None and not max_grad_norm > 0:
            raise ValueError(f"schedule.max_grad_norm must be above 0, or null for no clipping; got {max_grad_norm}")
        scale_lr(1.0, scaling=lr_scaling, effective_batch=1, base_batch_size=base_batch_size)  # checks both arguments
        self.length = length
        self.warmup = warmup
        self.name = name
        self.min_lr = min_lr
        self.lr_scaling: Scaling = lr_scaling
        self.base_batch_size = base_batch_size
        self.accumulate_grad_batches = accumulate_grad_batches
        self.max_grad_norm = max_grad_norm

    def optimizer(self, factory: OptimizerFactory, groups: ParamGroups, effective_batch: int) -> Optimizer:
        """Build the optimizer; its learning rate is scaled to ``effective_batch`` images per optimizer step."""
        return build_optimizer(
            factory,
            groups,
            scaling=self.lr_scaling,
            effective_batch=effective_batch,
            base_batch_size=self.base_batch_size,
        )

    def lr_scheduler(
        self, optimizer: Optimizer, batch_size: int, trainer: StepCounts, report: Callable[[str], object] = print
    ) -> ResumableLR:
        """Return the scheduler that sets the learning rate after each optimizer step.

        Args:
            optimizer: optimizer with the peak learning rates.
            batch_size: images per step and device.
            trainer: the Trainer.
            report: receives a line if a resumed run has another plan.
        """
        return lr_scheduler(
            optimizer,
            plan=self.plan(batch_size, trainer),
            warmup_steps=self.warmup_steps(trainer),
            min_lr=self.min_lr * self._scale(batch_size, trainer),
            name=self.name,
            report=report,
        )

    def plan(self, batch_size: int, trainer: StepCounts) -> Plan:
        """Return the length of the run."""
        steps, epochs = self.total_steps(trainer), trainer.max_epochs
        per_epoch = steps // epochs if epochs and epochs > 0 > trainer.max_steps else None
        return Plan(steps, per_epoch, self.effective_batch(batch_size, trainer))

    def effective_batch(self, batch_size: int, trainer: StepCounts) -> int:
        """Return the images per optimizer step, over all devices and accumulated batches.

        Raises:
            ValueError: the Trainer accumulates another number of batches than the schedule.
        """
        accumulated = trainer.accumulate_grad_batches
        if self.accumulate_grad_batches not in (1, accumulated):
            raise ValueError(
                f"schedule.accumulate_grad_batches is {self.accumulate_grad_batches}, the Trainer's is {accumulated}"
            )
        return batch_size * trainer.world_size * accumulated

    def total_steps(self, trainer: StepCounts) -> int:
        """Return the optimizer steps of the whole run.

        Raises:
            ValueError: the run has no end.
        """
        steps = trainer.estimated_stepping_batches
        if steps == float("inf") or steps < 1:
            raise ValueError("the schedule needs an end: set schedule.epochs, schedule.steps or trainer.max_steps")
        return int(steps)

    def warmup_steps(self, trainer: StepCounts) -> int:
        """Return the optimizer steps of the warm-up."""
        return round(self.total_steps(trainer) * self.warmup / self.length)

    def describe(self, optimizer: Optimizer, batch_size: int, trainer: StepCounts) -> str:
        """Return a one-line summary of batch size, learning rate and steps."""
        effective = self.effective_batch(batch_size, trainer)
        text = (
            f"effective batch {effective} = {batch_size} per device x {trainer.world_size} devices x "
            f"{trainer.accumulate_grad_batches} accumulated; peak learning rate "
            f"{max(group['lr'] for group in optimizer.param_groups):.6g} (scaling {self.lr_scaling}: x "
            f"{self._scale(batch_size, trainer):.6g}); {self.total_steps(trainer)} steps, "
            f"{self.warmup_steps(trainer)} of warm-up"
        )
        if self.lr_scaling != "none" or effective == self.base_batch_size:
            return text
        return f"{text}; the learning rate was chosen for batch {self.base_batch_size}, see schedule.lr_scaling=linear"

    def _scale(self, batch_size: int, trainer: StepCounts) -> float:
        effective = self.effective_batch(batch_size, trainer)
        return 1.0 if self.lr_scaling == "none" else effective / self.base_batch_size


class PretrainSchedule(Schedule):
    """Schedule of pre-training; the defaults are official for ViT-L, except the number of epochs.

    Args:
        epochs: see ``Schedule``.
        warmup_epochs: see ``Schedule``.
        min_lr: see ``Schedule``.
        base_batch_size: see ``Schedule``.
        max_grad_norm: see ``Schedule``.
        teacher_momentum_start: momentum of the teacher at step 0, in [0, 1]; 0, with an end of 0, makes the teacher a
            copy of the student.
        teacher_momentum_end: momentum that the cosine approaches at the end, in [0, 1].
        **others: see ``Schedule``.

    Raises:
        ValueError: a number is out of its range.
    """

    def __init__(
        self,
        *,
        epochs: float | None = 300,
        warmup_epochs: float = 10,
        min_lr: float = 1e-5,
        base_batch_size: int = 2048,
        max_grad_norm: float | None = 1.0,
        teacher_momentum_start: float = 0.996,
        teacher_momentum_end: float = 1.0,
        **others: object,
    ) -> None:
        super().__init__(
            epochs=epochs,
            warmup_epochs=warmup_epochs,
            min_lr=min_lr,
            base_batch_size=base_batch_size,
            max_grad_norm=max_grad_norm,
            **others,  # type: ignore[arg-type]
        )
        if not (0 <= teacher_momentum_start <= 1 and 0 <= teacher_momentum_end <= 1):
            raise ValueError(
                "teacher_momentum_start and teacher_momentum_end must lie in [0, 1], got "
                f"{teacher_momentum_start} and {teacher_momentum_end}"
            )
        self.teacher_momentum_start = teacher_momentum_start
        self.teacher_momentum_end = teacher_momentum_end

    def teacher_momentum(self, step: float, trainer: StepCounts) -> float:
        """Return the momentum of the teacher update that follows the step at position ``step`` of the schedule."""
        return cosine(
            step,
            total_steps=self.total_steps(trainer),
            start=self.teacher_momentum_start,
            end=self.teacher_momentum_end,
        )
