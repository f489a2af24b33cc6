"""What becomes of an optimizer step whose loss or gradient is not finite."""

from typing import Any, Literal, NamedTuple

import torch
from lightning.pytorch.utilities import rank_zero_warn
from torch import Tensor
from torch.optim import Optimizer

from conmim_lightning.optim.non_finite import NonFiniteError, told_losses

Action = Literal["stop", "skip"]


class _Step(NamedTuple):
    """What is told of an optimizer step.

    Attributes:
        number: of the step.
        epoch: that it is in.
        norm: of its gradient, on its way to the host.
        losses: of its batches, with the numbers of their samples.
    """

    number: int
    epoch: int
    norm: Tensor
    losses: list[tuple[Tensor, Tensor]]


class FiniteSteps:
    """Ends the run at a gradient that is not finite, or leaves that step out.

    Nobody may wait for a GPU in every step. There a fused optimizer leaves a bad step out by itself, and what is to be
    said or done is said a step later, when the number has long arrived; the teacher has then moved once more towards
    the unchanged student. On a CPU, and with an optimizer that is not fused, the host looks at once. Gradients are
    summed over devices, so all devices do the same.

    Args:
        action: "stop" raises ``NonFiniteError``, "skip" warns.

    Raises:
        ValueError: the action is unknown.
    """

    def __init__(self, action: Action) -> None:
        if action not in ("stop", "skip"):
            raise ValueError(f"on_non_finite must be 'stop' or 'skip', got {action!r}")
        self.action = action
        self.skipped = 0
        self._losses: list[tuple[Tensor, Tensor]] = []
        self._unread: _Step | None = None
        self._arrived: torch.cuda.Event | None = None

    def add(self, loss: Tensor, index: Tensor) -> None:
        """A batch of the step to come: its loss, without gradient, and the numbers of its samples."""
        self._losses.append((loss, index))

    def judge(self, task: Any, optimizer: Optimizer, norm: Tensor) -> bool:
        """Look at the norm of a step's gradient before the optimizer does; whether the step is known to be bad.

        Raises:
            NonFiniteError: this step, or on a GPU the one before, is not finite, and that ends the run.
        """
        self.settle(task)
        losses, self._losses = self._losses, []
        step = _Step(task.global_step, task.current_epoch, norm, losses)
        if self.reads_late(task, optimizer):
            optimizer.found_inf = (~norm.isfinite()).float()  # type: ignore[attr-defined]
            self._unread = step._replace(norm=self._sent(norm))
            return False
        if torch.isfinite(norm):
            return False
        self._act(task, step)
        return True

    def settle(self, task: Any) -> None:
        """Look at the step that was left to be looked at later, if there is one."""
        if self._unread is None:
            return
        step, self._unread = self._unread, None
        if self._arrived is not None:
            self._arrived.synchronize()
        if not torch.isfinite(step.norm):
            self._act(task, step)

    @staticmethod
    def reads_late(task: Any, optimizer: Optimizer) -> bool:
        """Whether the device decides for itself, and the host reads what it decided at the next step."""
        fused = getattr(optimizer, "_step_supports_amp_scaling", False)
        return task.device.type == "cuda" and fused and _scaler(task) is None

    def _sent(self, norm: Tensor) -> Tensor:
        """The norm, to be on the host when ``_arrived`` has happened."""
        if norm.device.type != "cuda":
            return norm.clone()
        here = torch.empty(norm.shape, dtype=norm.dtype, pin_memory=True).copy_(norm.detach(), non_blocking=True)
        self._arrived = torch.cuda.Event()
        self._arrived.record()
        return here

    def _act(self, task: Any, step: _Step) -> None:
        losses = torch.stack([loss for loss, _ in step.losses])
        overflow = _scaler(task) is not None and bool(losses.isfinite().all())  # fp16: the scaler will lower its scale
        where = f"gradient norm {step.norm.item()} at step {step.number} in epoch {step.epoch}"
        if self.action == "stop" and not overflow:
            raise NonFiniteError(f"{where}; {_told_by_all(task, step, losses)}", step.number)
        self.skipped += 1
        if not overflow:
            rank_zero_warn(f"{where}; {_told_by_all(task, step, losses)}; this step is left out", stacklevel=1)


def _scaler(task: Any) -> Any:
    return getattr(task.trainer.precision_plugin, "scaler", None)


def _told_by_all(task: Any, step: _Step, losses: Tensor) -> str:
    """Losses and samples of the step on all devices."""
    indices = torch.cat([index for _, index in step.losses])
    parts = {task.global_rank: (losses.tolist(), indices.tolist())}
    if task.trainer.world_size > 1:  # all devices are here
        gathered: Any = task.all_gather((losses, indices))
        parts = dict(enumerate(zip(gathered[0].tolist(), gathered[1].tolist(), strict=True)))
    return told_losses(parts)
