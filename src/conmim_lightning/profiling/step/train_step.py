"""One training step of a task outside the Trainer, with a callback after each phase."""

from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn

from conmim_lightning.losses.hidden_patches import hidden_patch_indices
from conmim_lightning.tasks.pretrain import PretrainTask

DTYPES = {"32-true": None, "bf16-mixed": torch.bfloat16, "16-mixed": torch.float16}
"""Dtype of autocast by Lightning's name of the precision."""

PHASES = ("teacher", "student forward", "loss", "backward", "clip and optimizer", "teacher update")
"""Phases of a step, in order."""


class TrainStep:
    """Training step with the same work as ``PretrainTask`` and the Trainer do on the views of a batch.

    Args:
        task: task whose model is trained.
        batch_size: images per step, for the scaling of the learning rate.
        precision: a key of ``DTYPES``; "16-mixed" uses a loss scaler and an optimizer that is not fused.
        compiled: apply ``torch.compile`` to student and teacher.
    """

    def __init__(self, task: PretrainTask, *, batch_size: int, precision: str, compiled: bool) -> None:
        self.task = task
        self.optimizer = task.make_optimizer(batch_size)
        self.max_grad_norm = task.schedule.max_grad_norm or torch.inf
        self.device = next(task.parameters()).device
        self.dtype = DTYPES[precision]
        self.scaler = torch.GradScaler(self.device.type, enabled=precision == "16-mixed")
        if compiled:
            task.compile_modules()

    def __call__(
        self,
        views: Sequence[Tensor],
        mask: Tensor,
        momentum: float,
        mark: Callable[[str], None] = lambda phase: None,
        max_hidden: int = 0,
    ) -> Tensor:
        """Train on [student view, teacher view] and a mask; return the loss without waiting for it."""
        task, model = self.task, self.task.model
        indices = hidden_patch_indices(mask, max_hidden)
        with torch.autocast(self.device.type, self.dtype or torch.bfloat16, enabled=self.dtype is not None):
            keys = model.teach(views[1])
            mark("teacher")
            queries = model.student(views[0], mask, indices)
            mark("student forward")
            loss = task.loss(queries, keys, mask, indices)
            mark("loss")
        self.scaler.scale(loss).backward()
        mark("backward")
        self.scaler.unscale_(self.optimizer)
        nn.utils.clip_grad_norm_(model.student.parameters(), self.max_grad_norm)
        self.scaler.step(self.optimizer)
        self.scaler.update()
        self.optimizer.zero_grad()
        mark("clip and optimizer")
        model.teacher.update(model.student, momentum)
        mark("teacher update")
        return loss.detach()
