"""ConMIM pre-training as a LightningModule."""

from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.optim import AdamW, Optimizer

from conmim_lightning.batches import PretrainBatch, PretrainViews
from conmim_lightning.losses.hidden_patches import hidden_patch_indices
from conmim_lightning.losses.patch_info_nce import PatchInfoNCE
from conmim_lightning.metrics.alignment import alignment, relative_distance
from conmim_lightning.models.backbones import Backbone
from conmim_lightning.models.conmim import ConMIM
from conmim_lightning.models.unchanged import unchanged
from conmim_lightning.optim.build import OptimizerFactory
from conmim_lightning.optim.param_groups import ParamGroups, decay_groups
from conmim_lightning.optim.recipe import PretrainSchedule
from conmim_lightning.perturbation.apply import Perturbation
from conmim_lightning.tasks.non_finite import Action, NonFiniteGuard, grad_scaler
from conmim_lightning.tasks.scheduled import ScheduledTask
from conmim_lightning.weights.state_diff import check_checkpoint

OFFICIAL_ADAMW: OptimizerFactory = partial(AdamW, lr=7.5e-4, betas=(0.9, 0.98), eps=1e-8, weight_decay=0.05, fused=True)
"""official for ViT-L at batch size 2048."""


class PretrainTask(ScheduledTask):
    """Learn patch features from unlabelled images: the query of each hidden patch must match the key of the same patch.

    Reference: Yi et al., "Masked Image Modeling with Denoising Contrast", ICLR 2023, arXiv 2205.09616.

    Args:
        model: student and teacher.
        loss: module of (B, K, C) queries, (B, K, C) keys, (B, h, w) mask, (B, R) indices; null for ``PatchInfoNCE``.
        perturbation: module on the training device: (crop, rows) -> [student view, teacher view]; null for official.
        optimizer: factory that takes parameter groups; it holds the peak learning rate and the weight decay.
        schedule: length, warm-up and learning rate of the run; null for the official schedule.
        batch_size: images per step and device; null uses the data module's batch size.
        on_non_finite: "stop" ends the run at a NaN or infinite loss or gradient; "skip" skips that optimizer step.
        seed: seed of drop path, if the encoder has drop path.
        log_every_n_steps: optimizer steps between two logs of the metrics of ``metrics.alignment``; the first and the
            last step are logged, too.
        compile: apply ``torch.compile`` to student, teacher and, on a GPU, the perturbation when training begins.
            Parameter names stay the same; results differ by rounding and by the random numbers of drop path.

    Raises:
        ValueError: a number is out of its range.
    """

    def __init__(
        self,
        model: ConMIM,
        *,
        loss: nn.Module | None = None,
        perturbation: Perturbation | None = None,
        optimizer: OptimizerFactory = OFFICIAL_ADAMW,
        schedule: PretrainSchedule | None = None,
        batch_size: int | None = None,
        on_non_finite: Action = "stop",
        seed: int = 0,
        log_every_n_steps: int = 50,
        compile: bool = False,
    ) -> None:
        super().__init__(optimizer=optimizer, schedule=schedule or PretrainSchedule(), batch_size=batch_size, seed=seed)
        if log_every_n_steps < 1:
            raise ValueError(f"log_every_n_steps must be at least 1, got {log_every_n_steps}")
        self.model = model
        self.loss = PatchInfoNCE() if loss is None else loss
        self.perturbation = Perturbation() if perturbation is None else perturbation
        self.guard = NonFiniteGuard(on_non_finite)
        self._skips_step = False
        self.log_every_n_steps = log_every_n_steps
        self.compiles = compile

    def forward(self, images: Tensor) -> Tensor:
        """Return the teacher's patch tokens of unmasked normalised images: (B, C, H, W) -> (B, N, D)."""
        return self.model.teacher_encoder.patch_tokens(images)

    def backbone(self, branch: str) -> Backbone:
        """Return the timm model in the encoder of "teacher" or "student".

        Raises:
            ValueError: the run has no teacher network.
        """
        if branch == "teacher" and not self.model.has_teacher:
            raise ValueError("this run has no teacher network; choose branch=student")
        return (self.model.teacher_encoder if branch == "teacher" else self.model.student.encoder).backbone

    def on_fit_start(self) -> None:
        """Compile if requested, now that the model is on its device.

        Raises:
            ValueError: FlexAttention is requested on a CPU, where it has no gradients.
        """
        if self.model.student.encoder.attn_implementation == "flex" and self.device.type == "cpu":
            raise ValueError("task.model.attn_implementation=flex trains on a GPU only; on a CPU choose auto or eager")
        if self.compiles:
            self.compile_modules()

    def compile_modules(self) -> None:
        """Apply ``torch.compile`` in place; the first steps then take minutes."""
        self.model.student.compile()
        (self.model.teacher.branch if self.model.has_teacher else self.model.teacher).compile()
        if self.device.type == "cuda":  # on a CPU, blurring only the selected images saves more than compilation
            self.perturbation.compile()

    def on_after_batch_transfer(self, batch: Any, dataloader_idx: int) -> Any:
        """Create perturbed and normalised views on the training device."""
        if not isinstance(batch, PretrainBatch):
            return batch
        student_view, teacher_view = self.perturbation(batch.crop, batch.perturbation)
        return PretrainViews(student_view, teacher_view, *batch[2:])

    def training_step(self, batch: PretrainViews, batch_idx: int) -> Tensor:
        """Return the loss between queries of the masked view and keys of the whole view.

        The teacher runs first, before anything is stored for the backward pass; this lowers peak memory.
        """
        indices = hidden_patch_indices(batch.mask, batch.max_hidden)
        keys = self.model.teach(batch.teacher_view)
        queries = self.model.student(batch.student_view, batch.mask, indices)
        loss = self.loss(queries, keys, batch.mask, indices)
        self.guard.add(loss.detach(), batch.index)
        self.log("train/loss", loss)
        step = self.global_step + 1  # the step that the metrics are logged with
        if step % self.log_every_n_steps == 0 or step in (1, self.planned_steps):
            self._log_alignment(queries, keys, batch.mask)
        return loss

    def configure_gradient_clipping(
        self, optimizer: Optimizer, gradient_clip_val: float | None = None, gradient_clip_algorithm: str | None = None
    ) -> None:
        """Clip the global gradient norm, log the norm before clipping, and handle a norm that is not finite."""
        if gradient_clip_algorithm not in (None, "norm"):
            raise ValueError(f"gradients are clipped by 'norm' only, got {gradient_clip_algorithm!r}")
        scaled = grad_scaler(self) is not None
        if scaled and getattr(optimizer, "_step_supports_amp_scaling", False):
            raise ValueError("trainer.precision=16-mixed needs optimizer.fused=false: a fused step hides the gradients")
        limit = self.schedule.max_grad_norm if gradient_clip_val is None else gradient_clip_val
        if limit is not None and not limit > 0:
            raise ValueError(f"the gradient norm is clipped to a number above 0, or null for no clipping; got {limit}")
        norm = nn.utils.clip_grad_norm_(self.model.student.parameters(), torch.inf if limit is None else limit)
        self.log("optim/grad_norm", norm)
        self._skips_step = self.guard.check(self, optimizer, norm)
        if self._skips_step and not scaled:
            self.zero_grad(set_to_none=True)  # the optimizer ignores parameters without gradient

    def optimizer_step(self, *args: Any, **kwargs: Any) -> None:
        """Update the teacher after each optimizer step, also with gradient accumulation."""
        step = self.schedule_step
        self._skips_step = False
        super().optimizer_step(*args, **kwargs)
        self.zero_grad(set_to_none=True)  # Lightning would keep gradients during the next forward pass, the memory peak
        momentum = self.pretrain_schedule.teacher_momentum(step, self.trainer)
        if not self._skips_step:
            self.model.teacher.update(self.model.student, momentum)
        metrics = {"optim/teacher_momentum": momentum, "optim/lr": self.trainer.optimizers[0].param_groups[0]["lr"]}
        if self.guard.skipped:
            metrics["optim/skipped_steps"] = float(self.guard.skipped)
        # created on the device: copying a number from the host would synchronise
        self.log_dict({name: torch.full((), value, device=self.device) for name, value in metrics.items()})

    def on_train_end(self) -> None:
        """Check the last step, whose check may have been deferred."""
        self.guard.check_pending(self)

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Store the number of skipped steps, after the deferred check, which prevents a checkpoint of a bad step."""
        self.guard.check_pending(self)
        checkpoint["skipped_steps"] = self.guard.skipped

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Restore the number of skipped steps; raise ValueError for a checkpoint of another architecture."""
        self.guard.skipped = checkpoint.get("skipped_steps", 0)
        check_checkpoint(self.state_dict(), checkpoint)

    @torch.no_grad()
    def similarity(self, student_view: Tensor, teacher_view: Tensor, mask: Tensor) -> Tensor:
        """Return the cosines of all queries with all keys, (B, N, N), without drop path and without effect on training.

        Args:
            student_view: (B, C, H, W) normalised.
            teacher_view: (B, C, H, W) normalised.
            mask: (B, h, w) bool, True = hidden from the student.
        """
        with unchanged(self.model, self.model.student.encoder), torch.compiler.set_stance("force_eager"):
            queries = F.normalize(self.model.student(student_view, mask).float(), dim=-1)
            keys = F.normalize(self.model.teach(teacher_view).float(), dim=-1)
        return queries @ keys.transpose(1, 2)

    def _log_alignment(self, queries: Tensor, keys: Tensor, mask: Tensor) -> None:
        metrics = alignment(queries, keys, mask)
        if self.model.has_teacher:
            metrics["teacher_distance"] = relative_distance(self.model.teacher.branch, self.model.student)
        self.log_dict({f"train/{name}": value for name, value in metrics.items()})

    def param_groups(self) -> ParamGroups:
        """Return the official decay groups of the student."""
        return decay_groups(self.model.student.named_parameters())

    @property
    def pretrain_schedule(self) -> PretrainSchedule:
        """The schedule, including the teacher's momentum."""
        assert isinstance(self.schedule, PretrainSchedule)
        return self.schedule

    def check_shapes(self, crop: tuple[int, ...], mask: tuple[int, ...]) -> None:
        """Raise ValueError unless the model accepts crops of shape (C, H, W) and masks of shape (h, w)."""
        encoder = self.model.student.encoder
        for name, given, needed in (("crops", crop, encoder.input_shape), ("masks", mask, encoder.grid_size)):
            if tuple(given) != tuple(needed):
                raise ValueError(f"the data's {name} are of shape {tuple(given)}, the backbone takes {tuple(needed)}")
