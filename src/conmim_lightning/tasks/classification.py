"""Fine-tuning a vision Transformer for image classification, as a LightningModule."""

from collections.abc import Callable, Sequence
from functools import partial
from typing import Literal

import torch
from timm.data.random_erasing import RandomErasing
from torch import Tensor, nn
from torch.nn import functional as F

from conmim_lightning.batches import LabelledBatch
from conmim_lightning.metrics.classification import ClassificationMetrics
from conmim_lightning.models.backbones import Backbone
from conmim_lightning.optim.build import OptimizerFactory
from conmim_lightning.optim.param_groups import ParamGroups, layer_decay_groups
from conmim_lightning.optim.recipe import Schedule
from conmim_lightning.rng import seeded_globally
from conmim_lightning.tasks.checks import balanced_weights, check_classifier, reset_other_head
from conmim_lightning.tasks.supervised import SupervisedTask


class ClassificationTask(SupervisedTask):
    """Fine-tune all weights to classify images, with learning rates that fall from the head to the embeddings.

    Reference: fine-tuning of BEiT (arXiv 2106.08254), which ConMIM's official code follows.

    Shapes: B images, C channels, H x W pixels, K classes.

    Args:
        model: timm vision Transformer with a classifier.
        normalize: module that converts uint8 images to the model's input, on the training device.
        num_classes: K, >= 2.
        optimizer: factory that takes parameter groups; it holds the head's peak learning rate and the weight decay.
        schedule: length, warm-up and learning rate of the run.
        batch_size: images per step and device; null uses the data module's batch size.
        layer_decay: factor of the learning rate per layer, from the head towards the embeddings, in (0, 1].
        label_smoothing: fraction of the target that is spread over all classes, in [0, 1); also set it in ``mixup``, if
            there is one.
        mixup: timm's ``Mixup``; null for no mixup.
        random_erasing: timm's ``RandomErasing``; null for no random erasing.
        class_weights: "none", "balanced" (in inverse proportion to the training images per class, with mean 1 over all
            images), or K numbers.
        seed: seed of mixup, random erasing and drop path.

    Raises:
        ValueError: a number is out of its range, or does not fit the model.
    """

    class_weights: Tensor

    def __init__(
        self,
        *,
        model: Backbone,
        normalize: nn.Module,
        num_classes: int,
        optimizer: OptimizerFactory,
        schedule: Schedule,
        batch_size: int | None = None,
        layer_decay: float = 0.65,
        label_smoothing: float = 0.1,
        mixup: Callable[[Tensor, Tensor], tuple[Tensor, Tensor]] | None = None,
        random_erasing: RandomErasing | None = None,
        class_weights: Literal["none", "balanced"] | Sequence[float] = "none",
        seed: int = 0,
    ) -> None:
        super().__init__(
            normalize=normalize,
            num_classes=num_classes,
            metrics=partial(ClassificationMetrics, num_classes),
            optimizer=optimizer,
            schedule=schedule,
            batch_size=batch_size,
            seed=seed,
        )
        if model.num_classes != num_classes:
            raise ValueError(f"the backbone's classifier has {model.num_classes} classes, the data {num_classes}")
        if not 0 <= label_smoothing < 1:
            raise ValueError(f"label_smoothing must lie in [0, 1), got {label_smoothing}")
        if mixup is not None and (batch_size or 0) % 2:
            raise ValueError(f"mixup needs an even batch_size, got {batch_size}")
        self.model = model
        self.layer_decay = layer_decay
        self.label_smoothing = label_smoothing
        self.mixup = mixup
        self.random_erasing = random_erasing
        self.has_balanced_weights = class_weights == "balanced"
        self.has_class_weights = class_weights != "none"
        self.register_buffer("class_weights", _class_weights(class_weights, num_classes))

    @property
    def timm_model(self) -> Backbone:
        """The model itself."""
        return self.model

    def forward(self, images: Tensor) -> Tensor:
        """Map normalised (B, C, H, W) images to (B, K) logits."""
        return self.model(images)

    def backbone(self, branch: str) -> Backbone:
        """Return the timm model, classifier included, for export; the branch has no effect."""
        return self.model

    def setup(self, stage: str) -> None:
        """Read the class names and, if needed, the class weights from the data module."""
        super().setup(stage)
        if stage == "fit":
            reset_other_head(self.model, self.classes)
            if self.has_balanced_weights:
                counts = self.trainer.datamodule.class_counts()  # type: ignore[attr-defined]
                self.class_weights.copy_(balanced_weights(counts))

    def training_step(self, batch: LabelledBatch, batch_idx: int) -> Tensor:
        """Return the loss of a batch after random erasing and mixup."""
        images, target = self._augment(batch.image, batch.label)
        loss = F.cross_entropy(
            self(images),
            target,
            weight=self.class_weights if self.has_class_weights else None,
            label_smoothing=0.0 if self.mixup else self.label_smoothing,  # timm's mixup smooths the labels itself
        )
        self.log("train/loss", loss)
        return loss

    def evaluate(self, batch: LabelledBatch, metrics: ClassificationMetrics) -> dict[str, Tensor]:
        """Predict a batch and add it to the metrics; see ``predict_step``."""
        outputs = self.predict_step(batch, 0)
        metrics.update(outputs["scores"], batch.label, batch.broken)
        return outputs

    def predict_step(self, batch: LabelledBatch, batch_idx: int) -> dict[str, Tensor]:
        """Return "scores", (B, K) probabilities; "label", (B,), -1 = no class; "index", (B,) of the images."""
        return {"scores": self(batch.image).float().softmax(1), "label": batch.label, "index": batch.index}

    def param_groups(self) -> ParamGroups:
        """Return the official groups by layer and weight decay."""
        depth = len(self.model.blocks)
        return layer_decay_groups(self.model.named_parameters(), depth=depth, layer_decay=self.layer_decay)

    def check_shapes(self, image: tuple[int, ...], scores: tuple[int, ...]) -> None:
        """Raise ValueError unless the model was built for images of shape (C, H, W) and scores of shape (K,)."""
        check_classifier(self.model, image, scores, self.num_classes)

    def _augment(self, images: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
        """Return erased and mixed images and their targets; timm samples from the global generators."""
        with seeded_globally(self.step_seed):
            if self.random_erasing is not None:
                self.random_erasing.device = images.device  # type: ignore[assignment]
                images = self.random_erasing(images)
            return self.mixup(images, labels) if self.mixup is not None else (images, labels)


def _class_weights(given: str | Sequence[float], num_classes: int) -> Tensor:
    """Return (K,) class weights; ``setup`` computes "balanced" weights later."""
    if given in ("none", "balanced"):
        return torch.ones(num_classes)
    if isinstance(given, str) or len(given) != num_classes or min(given) <= 0:
        raise ValueError(f"class_weights must be none, balanced or {num_classes} positive numbers, got {given!r}")
    return torch.tensor([float(number) for number in given])
