"""ConMIM pre-training as a LightningModule."""

from collections.abc import Callable
from typing import Any

import torch
from lightning import LightningModule
from torch import Tensor, nn
from torch.optim import Optimizer

from conmim_lightning.batches import PretrainBatch, PretrainViews
from conmim_lightning.losses.patch_info_nce import Dictionary, PatchInfoNCE, hidden_first
from conmim_lightning.metrics.alignment import alignment, relative_distance
from conmim_lightning.models.conmim import ConMIM
from conmim_lightning.optim.param_groups import decay_groups
from conmim_lightning.optim.plan import Plan
from conmim_lightning.optim.schedules import cosine
from conmim_lightning.optim.wiring import Scaling
from conmim_lightning.randomness import stream_seed
from conmim_lightning.tasks.finite import Action, FiniteSteps
from conmim_lightning.tasks.planned import planned
from conmim_lightning.weights.mismatch import check_checkpoint


class PretrainTask(LightningModule):
    """Learns patch features from unlabelled images: each hidden patch must find its own key among all of its image.

    Reference: Yi et al., "Masked Image Modeling with Denoising Contrast", ICLR 2023, arXiv 2205.09616.

    Args:
        model: student and teacher.
        perturbation: turns (crop, rows) into [student view, teacher view], on the training device.
        optimizer: factory that takes parameter groups; carries the peak learning rate and the weight decay.
        batch_size: images a step and device.
        epochs: planned, > 0; with the trainer's step count it turns ``warmup_epochs`` into steps.
        warmup_epochs: linear warm-up, 0 to epochs.
        min_lr: learning rate that the cosine approaches, at ``reference_batch`` when scaled.
        temperature: of the loss, > 0.
        dictionary: of the loss, "image" or "device".
        similarity_filter: of the loss, a cosine or null.
        momentum_start: teacher momentum at step 0, in [0, 1]; 0 with momentum_end 0 makes the teacher the student.
        momentum_end: teacher momentum that the cosine approaches, in [0, 1].
        lr_scaling: "none", or "linear" in effective batch over ``reference_batch``.
        reference_batch: images per optimizer step that the learning rate was chosen for.
        on_non_finite: "stop" ends the run at a NaN or infinite loss or gradient; "skip" leaves that optimizer step out.
        seed: of the drop path, if the encoder has one.
        monitor_every: optimizer steps between the figures of ``metrics.alignment``.
        compile: put student, teacher and, on a GPU, the perturbation through ``torch.compile`` when training begins.
            Names in checkpoints stay the same; figures differ by rounding, and by what drop path draws.

    Raises:
        ValueError: a number is out of its range.
    """

    def __init__(
        self,
        *,
        model: ConMIM,
        perturbation: nn.Module,
        optimizer: Callable[..., Optimizer],
        batch_size: int,
        epochs: float,
        warmup_epochs: float,
        min_lr: float,
        temperature: float = 0.1,
        dictionary: Dictionary = "image",
        similarity_filter: float | None = None,
        momentum_start: float = 0.996,
        momentum_end: float = 1.0,
        lr_scaling: Scaling = "none",
        reference_batch: int = 2048,
        on_non_finite: Action = "stop",
        seed: int = 0,
        monitor_every: int = 50,
        compile: bool = False,
    ) -> None:
        super().__init__()
        if not (0 <= momentum_start <= 1 and 0 <= momentum_end <= 1):
            raise ValueError(f"teacher momentum must lie in [0, 1], got {momentum_start} to {momentum_end}")
        if monitor_every < 1:
            raise ValueError(f"monitor_every must be at least 1, got {monitor_every}")
        self.plan = Plan(
            optimizer=optimizer,
            batch_size=batch_size,
            length=epochs,
            warmup=warmup_epochs,
            min_lr=min_lr,
            lr_scaling=lr_scaling,
            reference_batch=reference_batch,
        )
        self.model = model
        self.loss = PatchInfoNCE(temperature=temperature, dictionary=dictionary, similarity_filter=similarity_filter)
        self.perturbation = perturbation
        self.momentum_start = momentum_start
        self.momentum_end = momentum_end
        self.finite = FiniteSteps(on_non_finite)
        self._bad = False  # whether the optimizer step at hand is left out
        self.seed = seed
        self.monitor_every = monitor_every
        self.compile_at_start = compile

    def forward(self, images: Tensor) -> Tensor:
        """Teacher's patch tokens of whole normalised images: (B, C, H, W) -> (B, N, D)."""
        return self.model.teacher_encoder.patch_tokens(images)

    def backbone(self, branch: str) -> nn.Module:
        """The encoder's timm model of "teacher" or "student"."""
        encoder = self.model.teacher_encoder if branch == "teacher" else self.model.student.encoder
        return encoder.backbone

    def on_fit_start(self) -> None:
        """Compile what is to be compiled; the model is on its device by now.

        Raises:
            ValueError: FlexAttention is to be trained on a CPU, where it gives no gradients.
        """
        if self.model.student.encoder.attention == "flex" and self.device.type == "cpu":
            raise ValueError("task.model.attention=flex trains on a GPU only; auto and written do on a CPU")
        if self.compile_at_start:
            self.compile_parts()

    def compile_parts(self) -> None:
        """Put the parts of the model through ``torch.compile`` in place; the first calls then take minutes."""
        for encoder in (self.model.student.encoder, self.model.teacher_encoder):
            encoder.choose_attention(self.device)
        self.model.student.compile()
        self.model.teacher.branch.compile()
        if self.device.type == "cuda":  # on a CPU, picking the images to blur saves more than compiling does
            self.perturbation.compile()

    def on_after_batch_transfer(self, batch: Any, dataloader_idx: int) -> Any:
        """Perturb and normalise on the training device."""
        if not isinstance(batch, PretrainBatch):
            return batch
        student_view, teacher_view = self.perturbation(batch.crop, batch.perturbation)
        return PretrainViews(student_view, teacher_view, *batch[2:])

    def on_train_batch_start(self, batch: Any, batch_idx: int) -> None:
        """Drop path draws what follows from seed, batch and device alone, however the run was cut or watched."""
        batches = self.trainer.fit_loop.epoch_loop.total_batch_idx
        torch.manual_seed(stream_seed(self.seed, batches, self.global_rank) >> 1)

    def training_step(self, batch: PretrainViews, batch_idx: int) -> Tensor:
        """One batch: queries of the masked view against keys of the whole view.

        The teacher comes first, while nothing is kept for the backward pass yet: that lowers the peak of memory.
        """
        rows = hidden_first(batch.mask, batch.most_hidden)
        keys = self.model.teach(batch.teacher_view)
        queries = self.model.student(batch.student_view, batch.mask, rows)
        loss = self.loss(queries, keys, batch.mask, rows)
        self.finite.add(loss.detach(), batch.index)
        self.log("train/loss", loss)
        if (self.global_step + 1) % self.monitor_every == 0:  # so that they stand in the row of the step they are of
            figures = alignment(queries, keys, batch.mask)
            figures["teacher_distance"] = relative_distance(self.model.teacher.branch, self.model.student)
            self.log_dict({f"train/{name}": value for name, value in figures.items()})
        return loss

    def configure_gradient_clipping(
        self,
        optimizer: Optimizer,
        gradient_clip_val: int | float | None = None,
        gradient_clip_algorithm: str | None = None,
    ) -> None:
        """Clip by the global norm, log the norm before clipping, and act on a norm that is not finite."""
        if gradient_clip_algorithm not in (None, "norm"):
            raise ValueError(f"gradients are clipped by 'norm' only, got {gradient_clip_algorithm!r}")
        scaled = getattr(self.trainer.precision_plugin, "scaler", None) is not None
        if scaled and getattr(optimizer, "_step_supports_amp_scaling", False):
            raise ValueError("trainer.precision=16-mixed needs optimizer.fused=false: a fused step hides the gradients")
        limit = torch.inf if gradient_clip_val is None else gradient_clip_val
        if not limit > 0:
            raise ValueError(
                f"the gradient's norm is clipped to a number above 0, or null for no clipping; got {limit}"
            )
        norm = nn.utils.clip_grad_norm_(self.model.student.parameters(), limit)
        self.log("optim/grad_norm", norm)
        self._bad = self.finite.judge(self, optimizer, norm)
        if self._bad and not scaled:
            self.zero_grad(set_to_none=True)  # the optimizer leaves parameters without gradient alone

    def optimizer_step(self, *args: Any, **kwargs: Any) -> None:
        """Optimizer first, then the teacher: once an optimizer step, so also under gradient accumulation."""
        step = self.global_step
        self._bad = False
        super().optimizer_step(*args, **kwargs)
        self.zero_grad(set_to_none=True)  # kept through the next forward passes otherwise, where memory peaks
        momentum = self.teacher_momentum(step)
        if not self._bad:
            self.model.teacher.update(self.model.student, momentum)
        figures = {"optim/teacher_momentum": momentum, "optim/lr": self.trainer.optimizers[0].param_groups[0]["lr"]}
        if self.finite.skipped:
            figures["optim/skipped_steps"] = float(self.finite.skipped)
        # made on the device: a number that comes from the host would be waited for
        self.log_dict({name: torch.full((), value, device=self.device) for name, value in figures.items()})

    def on_train_end(self) -> None:
        """Look at the last step, which nothing follows."""
        self.finite.settle(self)

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Keep the count of skipped steps; nothing is kept of a run that is to stop."""
        self.finite.settle(self)
        checkpoint["skipped_steps"] = self.finite.skipped

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Refuse a checkpoint of another architecture before anything is loaded."""
        self.finite.skipped = checkpoint.get("skipped_steps", 0)
        check_checkpoint(self.state_dict(), checkpoint)

    def configure_optimizers(self) -> Any:
        """AdamW with the official decay groups; warm-up and cosine per optimizer step."""
        return planned(self)

    def make_optimizer(self, effective_batch: int) -> Optimizer:
        """The optimizer for a number of images per step, with the official decay groups."""
        return self.plan.optimizer(decay_groups(self.model.student.named_parameters()), effective_batch)

    def teacher_momentum(self, step: int) -> float:
        """Momentum of the update that follows optimizer step ``step``."""
        return cosine(
            step, total_steps=self.plan.total_steps(self.trainer), start=self.momentum_start, end=self.momentum_end
        )

    def check_shapes(self, crop: tuple[int, ...], mask: tuple[int, ...]) -> None:
        """Raise ValueError for crops (C, H, W) or masks (h, w) of other shapes than the model takes."""
        encoder = self.model.student.encoder
        for what, given, needed in (("crop", crop, encoder.input_shape), ("mask", mask, encoder.grid_size)):
            if tuple(given) != tuple(needed):
                raise ValueError(f"the data's {what} is of shape {tuple(given)}, the backbone takes {tuple(needed)}")
