"""Learning rate scheduler whose position survives a change of the batch size or of the run's length."""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

from torch.optim import Optimizer
from torch.optim.lr_scheduler import LambdaLR


class Plan(NamedTuple):
    """Length of a run.

    Attributes:
        total_steps: optimizer steps of the whole run.
        steps_per_epoch: optimizer steps per epoch; None for a run whose length is given in steps.
        effective_batch: images per optimizer step, over all devices and accumulated batches.
    """

    total_steps: int
    steps_per_epoch: int | None
    effective_batch: int


class ResumableLR(LambdaLR):
    """``LambdaLR`` of the optimizer step that follows the epochs done if a resumed run has other steps per epoch.

    A run whose length is given in steps follows its steps. Learning rates are those of the resumed run's configuration.

    Args:
        optimizer: optimizer whose groups hold the peak learning rates.
        factors: factor on the peak learning rate by schedule position, per group.
        plan: length of the run.
        report: receives a line if the resumed run's plan differs from the checkpoint's.

    Attributes:
        shift: optimizer steps to add to a step for its position in the schedule.
    """

    def __init__(
        self,
        optimizer: Optimizer,
        factors: Sequence[Callable[[float], float]],
        *,
        plan: Plan,
        report: Callable[[str], object],
    ) -> None:
        self.plan, self.shift, self._report = plan, 0.0, report

        def shifted(factor: Callable[[float], float]) -> Callable[[int], float]:
            return lambda step: factor(step + self.shift)

        super().__init__(optimizer, [shifted(factor) for factor in factors])

    @property
    def planned_steps(self) -> int:
        """Number of optimizer steps after which the run ends, those before a resume included."""
        return round(self.plan.total_steps - self.shift)

    def state_dict(self) -> dict[str, Any]:
        """Return the state as plain values."""
        state = super().state_dict() | {"plan": tuple(self.plan)}
        state.pop("_report")
        return state

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Continue at a state's step; the learning rate follows this run's plan."""
        own = {name: vars(self)[name] for name in ("plan", "base_lrs", "_report")}
        super().load_state_dict(state_dict)
        earlier = Plan(*state_dict["plan"]) if "plan" in state_dict else self.plan
        vars(self).update(own)
        step = self.last_epoch
        old, new = earlier.steps_per_epoch, self.plan.steps_per_epoch
        if old and new and old != new:
            self.shift = (step + self.shift) * new / old - step
        elif not new:
            self.shift = 0.0
        before = [group["lr"] for group in self.optimizer.param_groups]
        for group, base, factor in zip(self.optimizer.param_groups, self.base_lrs, self.lr_lambdas, strict=True):
            group["lr"] = base * factor(step)
        self._last_lr = [group["lr"] for group in self.optimizer.param_groups]
        if self.plan != earlier or self._last_lr != before:
            self._report(self._describe(earlier, max(before)))

    def _describe(self, earlier: Plan, before: float) -> str:
        values = (
            ("effective batch", earlier.effective_batch, self.plan.effective_batch),
            ("steps per epoch", earlier.steps_per_epoch, self.plan.steps_per_epoch),
            ("planned steps", earlier.total_steps, self.plan.total_steps),
        )
        changes = "".join(f"{name} {new} instead of {old}, " for name, old, new in values if old != new)
        return (
            f"resumed after step {self.last_epoch} with another plan: {changes}learning rate {max(self._last_lr):.6g} "
            f"instead of {before:.6g}; {(self.last_epoch + self.shift) / self.plan.total_steps:.1%} of the schedule is "
            f"done, and the run ends after step {self.planned_steps}"
        )
