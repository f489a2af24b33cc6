"""Fine-tuning a vision Transformer to classify images, as a LightningModule."""

from collections.abc import Callable, Sequence
from typing import Any, Literal, cast

import torch
from lightning import LightningModule
from torch import Tensor, nn
from torch.nn import functional as F
from torch.optim import Optimizer

from conmim_lightning.batches import LabelledBatch
from conmim_lightning.metrics.classification import Judge
from conmim_lightning.optim.param_groups import layer_decay_groups
from conmim_lightning.optim.plan import Plan
from conmim_lightning.optim.wiring import Scaling
from conmim_lightning.randomness import seeded_globally
from conmim_lightning.tasks.labels import balanced_weights, check_labelled, start_head_for, warn_of_normalisation
from conmim_lightning.tasks.planned import planned
from conmim_lightning.tasks.steps import clip_gradients, log_rate, seed_step
from conmim_lightning.weights.mismatch import check_checkpoint


class ClassificationTask(LightningModule):
    """Learns the classes of images, all weights trained, with rates that fall from the head to the embeddings.

    Reference: fine-tuning of BEiT (arXiv 2106.08254), which ConMIM's official code follows.

    Shapes: B images, C channels, H x W pixels, K classes.

    Args:
        model: timm vision Transformer with a classifier.
        normalize: uint8 images to what the model takes, on the training device.
        num_classes: K, >= 2.
        optimizer: factory that takes parameter groups; carries the head's peak learning rate and the weight decay.
        batch_size: images a step and device.
        epochs: see ``Plan``.
        warmup_epochs: see ``Plan``.
        min_lr: see ``Plan``.
        lr_scaling: see ``Plan``.
        reference_batch: see ``Plan``.
        layer_decay: factor of the learning rate from a layer to the one before it, in (0, 1].
        label_smoothing: share of the target spread over all classes, in [0, 1); with ``mixup`` set, set it there alike.
        mixup: timm's ``Mixup``, or null for none.
        erasing: timm's ``RandomErasing``, or null for none.
        class_weights: "none", "balanced" (in inverse proportion to the training images of a class, mean 1 over
            images), or K numbers.
        seed: of mixup, erasing and drop path.

    Raises:
        ValueError: a number is out of its range, or does not fit the model.
    """

    class_weights: Tensor

    def __init__(
        self,
        *,
        model: nn.Module,
        normalize: nn.Module,
        num_classes: int,
        optimizer: Callable[..., Optimizer],
        batch_size: int,
        epochs: float,
        warmup_epochs: float,
        min_lr: float,
        lr_scaling: Scaling = "none",
        reference_batch: int = 1024,
        layer_decay: float = 0.65,
        label_smoothing: float = 0.1,
        mixup: Callable[[Tensor, Tensor], tuple[Tensor, Tensor]] | None = None,
        erasing: Any = None,
        class_weights: Literal["none", "balanced"] | Sequence[float] = "none",
        seed: int = 0,
    ) -> None:
        super().__init__()
        self.plan = Plan(
            optimizer=optimizer,
            batch_size=batch_size,
            length=epochs,
            warmup=warmup_epochs,
            min_lr=min_lr,
            lr_scaling=lr_scaling,
            reference_batch=reference_batch,
        )
        if cast(Any, model).num_classes != num_classes:
            raise ValueError(f"the backbone's classifier has {model.num_classes} classes, the data {num_classes}")
        if not 0 <= label_smoothing < 1:
            raise ValueError(f"label_smoothing must lie in [0, 1), got {label_smoothing}")
        if mixup is not None and batch_size % 2:
            raise ValueError(f"mixup needs an even batch_size, got {batch_size}")
        self.model = model
        self.normalize = normalize
        self.num_classes = num_classes
        self.layer_decay = layer_decay
        self.label_smoothing = label_smoothing
        self.mixup = mixup
        self.erasing = erasing
        self.seed = seed
        self.balanced = class_weights == "balanced"
        self.weighted = class_weights != "none"
        self.register_buffer("class_weights", _weights(class_weights, num_classes))
        self.classes: list[str] = []
        self.judge = Judge(num_classes)
        self._batch_seed = 0

    def forward(self, images: Tensor) -> Tensor:
        """(B, C, H, W) normalised images to (B, K) logits."""
        return self.model(images)

    def backbone(self, branch: str) -> nn.Module:
        """The timm model, classifier included; there is one only."""
        return self.model

    def setup(self, stage: str) -> None:
        """Take the classes' names and, where asked for, their weights from the data."""
        data: Any = self.trainer.datamodule  # type: ignore[attr-defined]
        self.classes = list(data.classes or self.classes)
        if stage == "fit":
            warn_of_normalisation(self.model, data)
            start_head_for(self.model, self.classes)
            if self.balanced:
                self.class_weights.copy_(balanced_weights(data.class_counts()))

    def on_after_batch_transfer(self, batch: Any, dataloader_idx: int) -> Any:
        """Normalise on the training device."""
        return batch._replace(image=self.normalize(batch.image))

    def on_train_batch_start(self, batch: Any, batch_idx: int) -> None:
        """What is random in a step follows from seed, batch and device alone."""
        self._batch_seed = seed_step(self, self.seed)

    def training_step(self, batch: LabelledBatch, batch_idx: int) -> Tensor:
        """One batch: erase, mix, classify."""
        images, target = self._augmented(batch.image, batch.label)
        loss = F.cross_entropy(
            self(images),
            target,
            weight=self.class_weights if self.weighted else None,
            label_smoothing=0.0 if self.mixup else self.label_smoothing,  # timm's mixup smooths, too
        )
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

    def validation_step(self, batch: LabelledBatch, batch_idx: int) -> None:
        """Count right answers."""
        self.judge.update("val", self._scores(batch.image), batch.label, batch.broken)

    def on_validation_epoch_end(self) -> None:
        """Log what was counted; not of the few batches that are tried before training."""
        if self.trainer.sanity_checking:
            self.judge = Judge(self.num_classes).to(self.device)
        else:
            self.log_dict(self.judge.figures("val"))

    def test_step(self, batch: LabelledBatch, batch_idx: int) -> dict[str, Tensor]:
        """Count right answers; see ``predict_step`` for what is returned."""
        scores = self._scores(batch.image)
        self.judge.update("test", scores, batch.label, batch.broken)
        return {"scores": scores, "label": batch.label, "index": batch.index}

    def on_test_epoch_end(self) -> None:
        """Log what was counted."""
        self.log_dict(self.judge.figures("test"))

    def predict_step(self, batch: LabelledBatch, batch_idx: int) -> dict[str, Tensor]:
        """Of a batch: "scores" (B, K) probabilities, "label" (B,), -1 for none, "index" (B,) number of the image."""
        return {"scores": self._scores(batch.image), "label": batch.label, "index": batch.index}

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Keep the classes' names."""
        checkpoint["classes"] = self.classes

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Refuse a checkpoint of another architecture before anything is loaded."""
        self.classes = checkpoint.get("classes", [])
        check_checkpoint(self.state_dict(), checkpoint)

    def configure_optimizers(self) -> Any:
        """AdamW with a rate for each layer; warm-up and cosine per optimizer step."""
        return planned(self)

    def make_optimizer(self, effective_batch: int) -> Optimizer:
        """The optimizer for a number of images per step, with the official layers and decay groups."""
        depth = len(cast(Any, self.model).blocks)
        groups = layer_decay_groups(self.model.named_parameters(), depth=depth, layer_decay=self.layer_decay)
        return self.plan.optimizer(groups, effective_batch)

    def check_shapes(self, image: tuple[int, ...], scores: tuple[int, ...]) -> None:
        """Raise ValueError for images (C, H, W) or classes (K,) of other data than the model was made for."""
        check_labelled(self.model, image, scores, self.num_classes)

    def _scores(self, images: Tensor) -> Tensor:
        return self(images).float().softmax(1)

    def _augmented(self, images: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
        """Erased and mixed images and their targets; timm draws from the global generators."""
        with seeded_globally(self._batch_seed):
            if self.erasing is not None:
                self.erasing.device = images.device
                images = self.erasing(images)
            return self.mixup(images, labels) if self.mixup is not None else (images, labels)


def _weights(given: str | Sequence[float], num_classes: int) -> Tensor:
    """(K,) weights of the classes, to be replaced where they are "balanced"."""
    weights = torch.ones(num_classes) if given in ("none", "balanced") else None
    if weights is None and not isinstance(given, str) and len(given) == num_classes and min(given) > 0:
        weights = torch.tensor([float(number) for number in given])
    if weights is None:
        raise ValueError(f"class_weights must be none, balanced or {num_classes} positive numbers, got {given!r}")
    return weights
