"""Handling of optimizer steps whose loss or gradient is not finite."""

from typing import TYPE_CHECKING, Any, Literal, NamedTuple

import torch
from lightning import LightningModule
from lightning.pytorch.utilities import rank_zero_warn
from torch import Tensor
from torch.optim import Optimizer

from conmim_lightning.optim.non_finite import NonFiniteError, format_losses

if TYPE_CHECKING:
    from torch.cuda import Event

Action = Literal["stop", "skip"]


class _Step(NamedTuple):
    """An optimizer step to check and report.

    Attributes:
        number: index of the step.
        epoch: epoch of the step.
        norm: norm of its gradient; the copy to the CPU may still be in progress.
        losses: losses of its batches, with the indices of their samples.
    """

    number: int
    epoch: int
    norm: Tensor
    losses: list[tuple[Tensor, Tensor]]


class NonFiniteGuard:
    """End the run at a gradient that is not finite, or skip the optimizer step.

    No step may wait for a GPU. On a GPU, a fused optimizer skips a bad step by itself. The step is reported one step
    later, when the gradient norm is on the CPU; by then, the teacher has had one more update towards the unchanged
    student. On a CPU, or with an optimizer that is not fused, the norm is checked at once. Gradients are summed over
    devices, so all devices take the same action.

    Args:
        action: "stop" raises ``NonFiniteError``, "skip" skips the step and warns.

    Raises:
        ValueError: the action is unknown.
    """

    def __init__(self, action: Action) -> None:
        if action not in ("stop", "skip"):
            raise ValueError(f"on_non_finite must be 'stop' or 'skip', got {action!r}")
        self.action = action
        self.skipped = 0
        self._losses: list[tuple[Tensor, Tensor]] = []
        self._pending: _Step | None = None
        self._arrived: Event | None = None

    def add(self, loss: Tensor, index: Tensor) -> None:
        """Record a batch of the next optimizer step: its loss, detached, and the indices of its samples."""
        self._losses.append((loss, index))

    def check(self, task: LightningModule, optimizer: Optimizer, norm: Tensor) -> bool:
        """Check the norm of a step's gradient before the optimizer step; return whether the step is known to be bad.

        Raises:
            NonFiniteError: the action is "stop", and this step, or on a GPU the previous step, is not finite.
        """
        self.check_pending(task)
        losses, self._losses = self._losses, []
        step = _Step(task.global_step, task.current_epoch, norm, losses)
        if self.is_deferred(task, optimizer):
            optimizer.found_inf = (~norm.isfinite()).float()  # type: ignore[attr-defined]
            self._pending = step._replace(norm=self._to_host(norm))
            return False
        if torch.isfinite(norm):
            return False
        self._act(task, step)
        return True

    def check_pending(self, task: LightningModule) -> None:
        """Check the step whose check was deferred, if there is one."""
        if self._pending is None:
            return
        step, self._pending = self._pending, None
        if self._arrived is not None:
            self._arrived.synchronize()
        if not torch.isfinite(step.norm):
            self._act(task, step)

    @staticmethod
    def is_deferred(task: LightningModule, optimizer: Optimizer) -> bool:
        """Return whether the device skips bad steps by itself and the norm is read on the CPU one step later."""
        is_fused = getattr(optimizer, "_step_supports_amp_scaling", False)
        return task.device.type == "cuda" and is_fused and grad_scaler(task) is None

    def _to_host(self, norm: Tensor) -> Tensor:
        """Start the copy of the norm to the CPU; it is complete once the event ``_arrived`` has occurred."""
        if norm.device.type != "cuda":
            return norm.clone()
        host = torch.empty(norm.shape, dtype=norm.dtype, pin_memory=True).copy_(norm.detach(), non_blocking=True)
        self._arrived = torch.cuda.Event()
        self._arrived.record()
        return host

    def _act(self, task: LightningModule, step: _Step) -> None:
        losses = torch.stack([loss for loss, _ in step.losses])
        overflow = grad_scaler(task) is not None and bool(losses.isfinite().all())  # fp16: the scaler lowers its scale
        where = f"gradient norm {step.norm.item()} at step {step.number} in epoch {step.epoch}"
        if self.action == "stop" and not overflow:
            raise NonFiniteError(f"{where}; {_format_all_ranks(task, step, losses)}", step.number)
        self.skipped += 1
        if not overflow:
            rank_zero_warn(f"{where}; {_format_all_ranks(task, step, losses)}; this step is skipped", stacklevel=1)


def grad_scaler(task: LightningModule) -> object | None:
    """Return the loss scaler of float16 training; None in other precisions."""
    return getattr(task.trainer.precision_plugin, "scaler", None)


def _format_all_ranks(task: LightningModule, step: _Step, losses: Tensor) -> str:
    """Describe losses and samples of the step on all devices."""
    indices = torch.cat([index for _, index in step.losses])
    by_rank = {task.global_rank: (losses.tolist(), indices.tolist())}
    if task.trainer.world_size > 1:  # all devices reach this line
        gathered: Any = task.all_gather((losses, indices))
        by_rank = dict(enumerate(zip(gathered[0].tolist(), gathered[1].tolist(), strict=True)))
    return format_losses(by_rank)
