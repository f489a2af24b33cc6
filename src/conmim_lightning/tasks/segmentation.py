"""Fine-tuning a vision Transformer to give every pixel a class, as a LightningModule."""

from collections.abc import Callable
from typing import Any

import torch
from lightning import LightningModule
from torch import Tensor, nn
from torch.nn import functional as F
from torch.optim import Optimizer

from conmim_lightning.batches import SegmentationBatch
from conmim_lightning.metrics.segmentation import PixelJudge
from conmim_lightning.models.inference import Inference
from conmim_lightning.models.segmenter import Segmenter
from conmim_lightning.optim.param_groups import dense_groups
from conmim_lightning.optim.plan import Plan
from conmim_lightning.optim.wiring import Scaling
from conmim_lightning.tasks.dense import check_dense, check_norms
from conmim_lightning.tasks.labels import warn_of_normalisation
from conmim_lightning.tasks.planned import planned
from conmim_lightning.tasks.steps import clip_gradients, log_rate, seed_step
from conmim_lightning.weights.mismatch import check_checkpoint


class SegmentationTask(LightningModule):
    """Learns the class of every pixel; rates fall from the head to the embeddings.

    Reference: UPerNet on BEiT (arXiv 2106.08254), which ConMIM follows.

    Shapes: B images, C channels, H x W pixels, K classes.

    Args:
        model: backbone with heads.
        normalize: uint8 images to what the model takes, on the training device.
        inference: how whole images are scored.
        num_classes: K, >= 2.
        optimizer: factory that takes parameter groups; carries the head's peak learning rate and the weight decay.
        batch_size: images a step and device.
        length: of the run, in optimizer steps or in epochs; see ``Plan``.
        warmup: likewise.
        min_lr: see ``Plan``.
        shape: course of the learning rate, see ``Plan``.
        lr_scaling: see ``Plan``.
        reference_batch: see ``Plan``.
        layer_decay: factor of the learning rate from a layer to the one before it, in (0, 1].
        auxiliary_weight: of the auxiliary head's loss, >= 0.
        seed: of drop path and dropout.

    Raises:
        ValueError: a number is out of its range, or does not fit the model.
    """

    def __init__(
        self,
        *,
        model: Segmenter,
        normalize: nn.Module,
        inference: Inference,
        num_classes: int,
        optimizer: Callable[..., Optimizer],
        batch_size: int,
        length: float,
        warmup: float,
        min_lr: float = 0.0,
        shape: str = "poly",
        lr_scaling: Scaling = "none",
        reference_batch: int = 16,
        layer_decay: float = 0.65,
        auxiliary_weight: float = 0.4,
        seed: int = 0,
    ) -> None:
        super().__init__()
        self.plan = Plan(
            optimizer=optimizer,
            batch_size=batch_size,
            length=length,
            warmup=warmup,
            min_lr=min_lr,
            lr_scaling=lr_scaling,
            reference_batch=reference_batch,
            shape=shape,
        )
        if inference.size % model.maps.patch_size:
            raise ValueError(
                f"inference.size must be a multiple of the patch size {model.maps.patch_size}, got {inference.size}"
            )
        if model.num_classes != num_classes:
            raise ValueError(f"the model has {model.num_classes} classes, the data {num_classes}")
        if auxiliary_weight < 0:
            raise ValueError(f"auxiliary_weight must be at least 0, got {auxiliary_weight}")
        self.model = model
        self.normalize = normalize
        self.inference = inference
        self.num_classes = num_classes
        self.layer_decay = layer_decay
        self.auxiliary_weight = auxiliary_weight
        self.seed = seed
        self.classes: list[str] = []
        self.judges = nn.ModuleDict({f"of_{part}": PixelJudge(num_classes) for part in ("val", "test")})

    def forward(self, images: Tensor) -> Tensor:
        """(B, C, H, W) normalised images of any size to (B, K, H, W) probabilities."""
        return self.inference(lambda crops: self.model(crops).scores, images, self.model.maps.patch_size)

    def setup(self, stage: str) -> None:
        """Take the classes' names from the data."""
        data: Any = self.trainer.datamodule  # type: ignore[attr-defined]
        self.classes = list(data.classes or self.classes)
        if stage == "fit":
            warn_of_normalisation(self.model.backbone, data)

    def on_train_start(self) -> None:
        """Refuse what batch norm cannot do, now that it is known whether devices share it."""
        check_norms(self, self.plan.batch_size)

    def on_after_batch_transfer(self, batch: Any, dataloader_idx: int) -> Any:
        """Normalise on the training device."""
        if isinstance(batch.image, list):
            return batch._replace(image=[self.normalize(image[None])[0] for image in batch.image])
        return batch._replace(image=self.normalize(batch.image))

    def on_train_batch_start(self, batch: Any, batch_idx: int) -> None:
        """What is random in a step follows from seed, batch and device alone."""
        seed_step(self, self.seed)

    def training_step(self, batch: SegmentationBatch, batch_idx: int) -> Tensor:
        """One batch: cross-entropy of all pixels with a class, of the head and of the auxiliary one."""
        assert isinstance(batch.label, Tensor)
        found, label = self.model(batch.image), batch.label.long()
        loss = _cross_entropy(found.scores, label)
        self.log("train/loss_head", loss)
        if found.auxiliary is not None:
            loss = loss + self.auxiliary_weight * _cross_entropy(found.auxiliary, label)
        self.log("train/loss", loss)
        return loss

    def configure_gradient_clipping(
        self,
        optimizer: Optimizer,
        gradient_clip_val: int | float | None = None,
        gradient_clip_algorithm: str | None = None,
    ) -> None:
        """Clip by the global norm, log it, and stop at one that is not finite."""
        clip_gradients(self, gradient_clip_val)

    def optimizer_step(self, *args: Any, **kwargs: Any) -> None:
        """Log the head's learning rate with the step it is of."""
        super().optimizer_step(*args, **kwargs)
        log_rate(self)

    def validation_step(self, batch: SegmentationBatch, batch_idx: int) -> None:
        """Count pixels."""
        self._judge("val", batch)

    def on_validation_epoch_end(self) -> None:
        """Log what was counted; not of the few batches that are tried before training."""
        judge: Any = self.judges["of_val"]
        if self.trainer.sanity_checking:
            judge.reset()
        else:
            self.log_dict(judge.figures("val"))

    def test_step(self, batch: SegmentationBatch, batch_idx: int) -> dict[str, Any]:
        """Count pixels; see ``predict_step`` for what is returned."""
        return self._judge("test", batch)

    def on_test_epoch_end(self) -> None:
        """Log what was counted."""
        judge: Any = self.judges["of_test"]
        self.log_dict(judge.figures("test"))

    def predict_step(self, batch: SegmentationBatch, batch_idx: int) -> dict[str, Any]:
        """Of a batch: "answers", of each image (H, W) uint8 or int16 classes; "index" (B,) number of the image."""
        return {"answers": self._answers(batch), "index": batch.index}

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Keep the classes' names."""
        checkpoint["classes"] = self.classes

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Refuse a checkpoint of another architecture before anything is loaded."""
        self.classes = checkpoint.get("classes", [])
        check_checkpoint(self.state_dict(), checkpoint)

    def configure_optimizers(self) -> Any:
        """A rate for each layer; warm-up and fall per optimizer step."""
        return planned(self)

    def make_optimizer(self, effective_batch: int) -> Optimizer:
        """The optimizer for a number of images per step."""
        return self.plan.optimizer(dense_groups(self.model, layer_decay=self.layer_decay), effective_batch)

    def check_shapes(self, image: tuple[int, ...], scores: tuple[int, ...]) -> None:
        """Raise ValueError for images (C, S, S) or classes (K,) of other data than the model was made for."""
        check_dense(self.model.maps, image, scores, self.num_classes)

    def _judge(self, part: str, batch: SegmentationBatch) -> dict[str, Any]:
        answers = self._answers(batch)
        judge: Any = self.judges[f"of_{part}"]
        judge.update(answers, batch.label, batch.broken)
        return {"answers": answers, "index": batch.index}

    def _answers(self, batch: SegmentationBatch) -> list[Tensor]:
        """The likeliest class of each pixel; images of one size go through together."""
        images: Any = batch.image
        if len({tuple(image.shape) for image in images}) == 1:
            return list(self(torch.stack(list(images))).argmax(1).to(torch.int16))
        return [self(image[None]).argmax(1)[0].to(torch.int16) for image in images]


def _cross_entropy(scores: Tensor, label: Tensor) -> Tensor:
    """Sum over pixels with a class, divided by the number of all pixels (as mmsegmentation 0.x, which BEiT uses)."""
    return F.cross_entropy(scores, label, ignore_index=-1, reduction="sum") / label.numel()
