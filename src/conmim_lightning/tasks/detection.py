"""Fine-tuning a vision Transformer to find objects and their masks, as a LightningModule."""

from collections.abc import Callable, Sequence
from typing import Any

import torch
from lightning import LightningModule
from torch import Tensor, nn
from torch.optim import Optimizer

from conmim_lightning.batches import DetectionBatch
from conmim_lightning.metrics.detection import BoxJudge
from conmim_lightning.models.detector import Detector
from conmim_lightning.optim.param_groups import dense_groups
from conmim_lightning.optim.plan import Plan
from conmim_lightning.optim.wiring import Scaling
from conmim_lightning.tasks.dense import check_dense
from conmim_lightning.tasks.labels import warn_of_normalisation
from conmim_lightning.tasks.planned import planned
from conmim_lightning.tasks.steps import clip_gradients, log_rate, seed_step
from conmim_lightning.weights.mismatch import check_checkpoint


class DetectionTask(LightningModule):
    """Learns boxes, classes and masks of objects.

    Reference: Mask R-CNN on a plain vision Transformer (arXiv 2111.11429, 2203.16527, 2204.02964).

    Args:
        model: detector.
        normalize: uint8 images to what the model takes, on the training device.
        num_classes: K, >= 1.
        optimizer: factory that takes parameter groups; carries the heads' peak learning rate and the weight decay.
        batch_size: images a step and device.
        length: of the run, in epochs or in optimizer steps; see ``Plan``.
        warmup: likewise.
        min_lr: see ``Plan``.
        shape: course of the learning rate, see ``Plan``.
        lr_scaling: see ``Plan``.
        reference_batch: see ``Plan``.
        layer_decay: factor of the learning rate from a layer to the one before it, in (0, 1].
        undecayed: ends of names that weight decay does not apply to, besides the usual ones (MIMDet: the tables).
        seed: of drop path and of the regions that are drawn.

    Raises:
        ValueError: a number is out of its range, or does not fit the model.
    """

    def __init__(
        self,
        *,
        model: Detector,
        normalize: nn.Module,
        num_classes: int,
        optimizer: Callable[..., Optimizer],
        batch_size: int,
        length: float,
        warmup: float,
        min_lr: float = 0.0,
        shape: str = "cosine",
        lr_scaling: Scaling = "none",
        reference_batch: int = 64,
        layer_decay: float = 1.0,
        undecayed: Sequence[str] = ("relative_position_bias_table",),
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
        if model.num_classes != num_classes:
            raise ValueError(f"the model has {model.num_classes} classes, the data {num_classes}")
        self.model = model
        self.normalize = normalize
        self.num_classes = num_classes
        self.layer_decay = layer_decay
        self.undecayed = tuple(undecayed)
        self.seed = seed
        self.classes: list[str] = []
        self.category_ids: list[int] | None = None
        self.class_precision: dict[str, dict[int, float]] = {}
        self.judges = nn.ModuleDict({f"of_{part}": BoxJudge(masks=model.masks) for part in ("val", "test")})

    def forward(self, images: Tensor, size: Tensor, original: Tensor) -> list[Any]:
        """What is in normalised images, see ``Detector``."""
        return self.model(images, size, original)

    def setup(self, stage: str) -> None:
        """Take the classes' names from the data."""
        data: Any = self.trainer.datamodule  # type: ignore[attr-defined]
        self.classes = list(data.classes or self.classes)
        self.category_ids = data.category_ids or self.category_ids
        if stage == "fit":
            warn_of_normalisation(self.model.backbone, data)

    def on_after_batch_transfer(self, batch: Any, dataloader_idx: int) -> Any:
        """Normalise on the training device."""
        return batch._replace(image=self.normalize(batch.image))

    def on_train_batch_start(self, batch: Any, batch_idx: int) -> None:
        """What is random in a step follows from seed, batch and device alone."""
        seed_step(self, self.seed)

    def training_step(self, batch: DetectionBatch, batch_idx: int) -> Tensor:
        """One batch: losses of regions, boxes, classes and masks, summed."""
        losses = self.model.losses(batch.image, batch.objects)
        self.log_dict({f"train/{name}": value.detach() for name, value in losses.items()})
        loss = torch.stack(list(losses.values())).sum()
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
        """Log the heads' learning rate with the step it is of."""
        super().optimizer_step(*args, **kwargs)
        log_rate(self)

    def validation_step(self, batch: DetectionBatch, batch_idx: int) -> None:
        """Compare what is found."""
        self._judge("val", batch)

    def on_validation_epoch_end(self) -> None:
        """Log the figures; not of the few batches that are tried before training."""
        judge: Any = self.judges["of_val"]
        if self.trainer.sanity_checking:
            judge.reset()
        else:
            self.log_dict(judge.figures("val")[0])

    def test_step(self, batch: DetectionBatch, batch_idx: int) -> dict[str, Any]:
        """Compare what is found; see ``predict_step`` for what is returned."""
        return self._judge("test", batch)

    def on_test_epoch_end(self) -> None:
        """Log the figures, and keep those of each class."""
        judge: Any = self.judges["of_test"]
        figures, self.class_precision = judge.figures("test")
        self.log_dict(figures)

    def predict_step(self, batch: DetectionBatch, batch_idx: int) -> dict[str, Any]:
        """Of a batch: "found", of each image boxes, scores, labels and masks; "index" (B,) number of the image."""
        return {"found": self(batch.image, batch.size, batch.original), "index": batch.index}

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Keep the classes' names and the numbers of their categories."""
        checkpoint["classes"], checkpoint["category_ids"] = self.classes, self.category_ids

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Refuse a checkpoint of another architecture before anything is loaded."""
        self.classes, self.category_ids = checkpoint.get("classes", []), checkpoint.get("category_ids")
        check_checkpoint(self.state_dict(), checkpoint)

    def configure_optimizers(self) -> Any:
        """A rate for each layer; warm-up and fall per optimizer step."""
        return planned(self)

    def make_optimizer(self, effective_batch: int) -> Optimizer:
        """The optimizer for a number of images per step."""
        groups = dense_groups(self.model, layer_decay=self.layer_decay, undecayed=self.undecayed)
        return self.plan.optimizer(groups, effective_batch)

    def check_shapes(self, image: tuple[int, ...], scores: tuple[int, ...]) -> None:
        """Raise ValueError for images (C, S, S) or classes (K,) of other data than the model was made for."""
        check_dense(self.model.net.backbone.maps, image, scores, self.num_classes)

    def _judge(self, part: str, batch: DetectionBatch) -> dict[str, Any]:
        found = self(batch.image, batch.size, batch.original)
        judge: Any = self.judges[f"of_{part}"]
        judge.update(found, batch.objects, batch.broken)
        return {"found": found, "index": batch.index}
