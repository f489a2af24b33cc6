"""Linear classifiers of frozen features, trained side by side, as a LightningModule."""

from collections.abc import Sequence
from functools import partial
from typing import cast

import torch
from lightning.pytorch.utilities import rank_zero_info
from torch import Tensor, nn
from torch.nn import functional as F

from conmim_lightning.batches import LabelledBatch
from conmim_lightning.metrics.classification import ClassificationMetrics, HeadAccuracy
from conmim_lightning.models.backbones import Backbone
from conmim_lightning.models.features import FrozenFeatures
from conmim_lightning.models.linear_heads import LinearHeads, Norm
from conmim_lightning.optim.build import OptimizerFactory
from conmim_lightning.optim.param_groups import ParamGroups
from conmim_lightning.optim.recipe import Schedule
from conmim_lightning.tasks.checks import check_classifier
from conmim_lightning.tasks.supervised import SupervisedTask


class LinearProbeTask(SupervisedTask):
    """Train one linear classifier per feature and learning rate, all in one pass over the images.

    The classifier that is best on validation images is tested. Test images must differ from them: the data module holds
    out some of the training images. Reference: DINOv2, arXiv 2304.07193.

    Shapes: B images, K classes, M classifiers.

    Args:
        model: timm vision Transformer without classifier and with its final norm; it is not trained.
        normalize: module that converts uint8 images to the model's input, on the training device.
        num_classes: K, >= 2.
        features: names of features, see ``FrozenFeatures``.
        learning_rates: peak learning rates, at the schedule's ``base_batch_size`` if scaled.
        norm: normalisation of the features: "none", "layer" or "batch".
        optimizer: factory that takes parameter groups; its own learning rate is ignored.
        schedule: length, warm-up and learning rate of the run.
        batch_size: images per step and device; null uses the data module's batch size.

    Raises:
        ValueError: a number is out of its range, or the model has a classifier.
    """

    best: Tensor

    def __init__(
        self,
        *,
        model: Backbone,
        normalize: nn.Module,
        num_classes: int,
        features: Sequence[str],
        learning_rates: Sequence[float],
        optimizer: OptimizerFactory,
        schedule: Schedule,
        batch_size: int | None = None,
        norm: Norm = "none",
    ) -> None:
        super().__init__(
            normalize=normalize,
            num_classes=num_classes,
            metrics=partial(ClassificationMetrics, num_classes),
            optimizer=optimizer,
            schedule=schedule,
            batch_size=batch_size,
        )
        self.features = FrozenFeatures(model, features)
        self.heads = LinearHeads(self.features.widths, learning_rates, num_classes, norm)
        self.metrics["val"] = HeadAccuracy(len(self.heads))
        self.register_buffer("best", torch.tensor(0))

    @property
    def timm_model(self) -> Backbone:
        """The frozen model."""
        return self.features.backbone

    def forward(self, images: Tensor) -> Tensor:
        """Map normalised (B, C, H, W) images to (B, K) logits of the best classifier."""
        return self.heads.forward_head(int(self.best), self.features(images))

    def backbone(self, branch: str) -> Backbone:
        """Return the frozen timm model, for export; the branch has no effect."""
        return self.features.backbone

    def setup(self, stage: str) -> None:
        """Read the class names from the data module.

        Raises:
            ValueError: the best classifier would be selected on the test images.
        """
        super().setup(stage)
        data = self.trainer.datamodule  # type: ignore[attr-defined]
        same = not data.held_out_fraction and data.split_names["val"] == data.split_names["test"]
        if stage == "fit" and len(self.heads) > 1 and same:
            raise ValueError(
                f"selecting one of {len(self.heads)} classifiers needs other images than those of the test: "
                "data.held_out_fraction=0.1, or another data.val"
            )

    def training_step(self, batch: LabelledBatch, batch_idx: int) -> Tensor:
        """Return the sum of the losses of all classifiers; each classifier receives only its own gradient."""
        logits = self.heads(self.features(batch.image))  # (M, B, K)
        labels = batch.label.expand(len(logits), -1)
        losses = F.cross_entropy(logits.flatten(0, 1), labels.flatten(), reduction="none").view(len(logits), -1).mean(1)
        self.log("train/loss", losses.min())
        return losses.sum()

    def validation_step(self, batch: LabelledBatch, batch_idx: int) -> None:
        """Evaluate all classifiers on a batch."""
        cast(HeadAccuracy, self.metrics["val"]).update(self.heads(self.features(batch.image)), batch.label)

    def on_validation_epoch_end(self) -> None:
        """Select the best classifier."""
        metric = cast(HeadAccuracy, self.metrics["val"])
        accuracies: Tensor = metric.compute()
        metric.reset()
        self.best.fill_(accuracies.argmax())
        self.log("val/top1", accuracies.max())

    def on_fit_end(self) -> None:
        """Print the selected classifier."""
        rank_zero_info(f"selected of {len(self.heads)} classifiers: {self.heads.name(int(self.best))}")

    def evaluate(self, batch: LabelledBatch, metrics: ClassificationMetrics) -> dict[str, Tensor]:
        """Predict a batch with the selected classifier and add it to the metrics; see ``predict_step``."""
        outputs = self.predict_step(batch, 0)
        metrics.update(outputs["scores"], batch.label, batch.broken)
        return outputs

    def predict_step(self, batch: LabelledBatch, batch_idx: int) -> dict[str, Tensor]:
        """Return "scores", (B, K) probabilities; "label", (B,), -1 = no class; "index", (B,) of the images."""
        return {"scores": self(batch.image).float().softmax(1), "label": batch.label, "index": batch.index}

    def param_groups(self) -> ParamGroups:
        """Return one group per classifier."""
        return self.heads.param_groups()

    def check_shapes(self, image: tuple[int, ...], scores: tuple[int, ...]) -> None:
        """Raise ValueError unless the model was built for images of shape (C, H, W) and scores of shape (K,)."""
        check_classifier(self.features.backbone, image, scores, self.num_classes)
