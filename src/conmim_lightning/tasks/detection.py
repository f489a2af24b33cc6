"""Fine-tuning a vision Transformer for object detection and instance segmentation, as a LightningModule."""

from collections.abc import Sequence
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from conmim_lightning.batches import DetectionBatch, Detections
from conmim_lightning.metrics.detection import DetectionMetrics
from conmim_lightning.models.backbones import Backbone
from conmim_lightning.models.detector import Detector
from conmim_lightning.optim.build import OptimizerFactory
from conmim_lightning.optim.param_groups import ParamGroups, dense_groups
from conmim_lightning.optim.recipe import Schedule
from conmim_lightning.tasks.checks import check_dense
from conmim_lightning.tasks.supervised import SupervisedTask


class DetectionTask(SupervisedTask):
    """Fine-tune all weights to detect boxes, classes and masks of objects.

    Reference: Mask R-CNN on a plain vision Transformer (arXiv 2111.11429, 2203.16527, 2204.02964).

    Shapes: B images, C channels, S x S pixels.

    Args:
        model: detector with backbone and heads.
        normalize: module that converts uint8 images to the model's input, on the training device.
        num_classes: K, >= 1.
        optimizer: factory that takes parameter groups; it holds the heads' peak learning rate and the weight decay.
        schedule: length, warm-up and learning rate of the run.
        batch_size: images per step and device; null uses the data module's batch size.
        layer_decay: factor of the learning rate per layer, from the head towards the embeddings, in (0, 1].
        no_weight_decay: name suffixes of further parameters without weight decay (MIMDet: relative position tables).
        seed: seed of drop path and of the sampling of proposals.

    Raises:
        ValueError: a number is out of its range, or does not fit the model.
    """

    def __init__(
        self,
        *,
        model: Detector,
        normalize: nn.Module,
        num_classes: int,
        optimizer: OptimizerFactory,
        schedule: Schedule,
        batch_size: int | None = None,
        layer_decay: float = 1.0,
        no_weight_decay: Sequence[str] = ("relative_position_bias_table",),
        seed: int = 0,
    ) -> None:
        super().__init__(
            normalize=normalize,
            num_classes=num_classes,
            metrics=partial(DetectionMetrics, masks=model.masks),
            optimizer=optimizer,
            schedule=schedule,
            batch_size=batch_size,
            seed=seed,
        )
        if model.num_classes != num_classes:
            raise ValueError(f"the model has {model.num_classes} classes, the data {num_classes}")
        self.model = model
        self.layer_decay = layer_decay
        self.no_weight_decay = tuple(no_weight_decay)
        self.category_ids: list[int] | None = None

    @property
    def timm_model(self) -> Backbone:
        """The backbone within the detector."""
        return self.model.backbone

    def forward(self, images: Tensor, size: Tensor, original: Tensor) -> list[Detections]:
        """Detect objects in normalised images, see ``Detector``."""
        return self.model(images, size, original)

    def setup(self, stage: str) -> None:
        """Read the class names and COCO's category ids from the data module."""
        super().setup(stage)
        self.category_ids = self.trainer.datamodule.category_ids or self.category_ids  # type: ignore[attr-defined]

    def training_step(self, batch: DetectionBatch, batch_idx: int) -> Tensor:
        """Return the sum of the losses of proposals, boxes, classes and masks."""
        losses = self.model.losses(batch.image, batch.objects)
        self.log_dict({f"train/{name}": value.detach() for name, value in losses.items()})
        loss = torch.stack(list(losses.values())).sum()
        self.log("train/loss", loss)
        return loss

    def evaluate(self, batch: DetectionBatch, metrics: DetectionMetrics) -> dict[str, list[Detections] | Tensor]:
        """Predict a batch and add it to the metrics; see ``predict_step``."""
        detections = self(batch.image, batch.size, batch.original)
        metrics.update(detections, batch.objects, batch.broken)
        return {"detections": detections, "index": batch.index}

    def predict_step(self, batch: DetectionBatch, batch_idx: int) -> dict[str, list[Detections] | Tensor]:
        """Return "detections" of each image, and "index", (B,), of the images."""
        return {"detections": self(batch.image, batch.size, batch.original), "index": batch.index}

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Store class names and COCO's category ids."""
        super().on_save_checkpoint(checkpoint)
        checkpoint["category_ids"] = self.category_ids

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Restore names and ids; raise ValueError for a checkpoint of another architecture."""
        super().on_load_checkpoint(checkpoint)
        self.category_ids = checkpoint.get("category_ids")

    def param_groups(self) -> ParamGroups:
        """Return groups with one learning rate per layer; the heads are the last layer."""
        return dense_groups(
            self.model, self.model.backbone, layer_decay=self.layer_decay, no_weight_decay=self.no_weight_decay
        )

    def check_shapes(self, image: tuple[int, ...], scores: tuple[int, ...]) -> None:
        """Raise ValueError unless the model was built for images of shape (C, S, S) and scores of shape (K,)."""
        check_dense(self.model.maps, image, scores, self.num_classes)
