"""A downstream task: predict one number per image. Class folders are named by the number, such as ``train/41/...``."""

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torchmetrics import MeanAbsoluteError, MetricCollection

from conmim_lightning.batches import LabelledBatch
from conmim_lightning.models.backbones import Backbone
from conmim_lightning.optim.param_groups import ParamGroups, layer_decay_groups
from conmim_lightning.tasks.supervised import SupervisedTask


class NumberRegressionTask(SupervisedTask):
    """Fine-tune all weights and a head with one output.

    Args:
        model: timm vision Transformer with one output.
        normalize: uint8 images to the model's input.
        num_classes: of the data, K different numbers.
        layer_decay: factor of the learning rate from a layer to the one before it, in (0, 1].
        **others: see ``SupervisedTask``.
    """

    def __init__(
        self, *, model: Backbone, normalize: nn.Module, num_classes: int, layer_decay: float = 0.65, **others: Any
    ) -> None:
        super().__init__(
            normalize=normalize,
            num_classes=num_classes,
            metrics=lambda: MetricCollection({"mean_absolute_error": MeanAbsoluteError()}),
            **others,
        )
        self.model = model
        self.layer_decay = layer_decay

    @property
    def timm_model(self) -> Backbone:
        """The model itself."""
        return self.model

    def forward(self, images: Tensor) -> Tensor:
        """(B, C, H, W) normalised images -> (B,) numbers."""
        return self.model(images).squeeze(1)

    def numbers(self, batch: LabelledBatch) -> Tensor:
        """(B,) annotated numbers."""
        return torch.tensor([float(self.classes[label]) for label in batch.label.tolist()], device=self.device)

    def training_step(self, batch: LabelledBatch, batch_idx: int) -> Tensor:
        """Mean absolute error."""
        loss = F.l1_loss(self(batch.image), self.numbers(batch))
        self.log("train/loss", loss)
        return loss

    def evaluate(self, batch: LabelledBatch, metrics: MetricCollection) -> dict[str, Tensor]:
        """Predict a batch and add the labelled images to the metrics."""
        predictions, labelled = self(batch.image), batch.label >= 0
        metrics.update(predictions[labelled], self.numbers(batch)[labelled])
        return {"predictions": predictions, "index": batch.index}

    def param_groups(self) -> ParamGroups:
        """One learning rate per layer."""
        return layer_decay_groups(
            self.model.named_parameters(), depth=len(self.model.blocks), layer_decay=self.layer_decay
        )

    def check_shapes(self, image: tuple[int, ...], scores: tuple[int, ...]) -> None:
        """Raise ValueError for images (C, H, W) of another size than the model takes."""
        if image[1:] != tuple(self.model.patch_embed.img_size):
            raise ValueError(f"images are of shape {image}, the model takes {self.model.patch_embed.img_size}")
