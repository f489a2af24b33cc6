"""Linear classifiers on frozen features, trained side by side, as a LightningModule."""

from collections.abc import Callable, Sequence
from typing import Any

import torch
from lightning import LightningModule
from lightning.pytorch.utilities import rank_zero_info
from torch import Tensor, nn
from torch.nn import functional as F
from torch.optim import Optimizer

from conmim_lightning.batches import LabelledBatch
from conmim_lightning.metrics.classification import HeadAccuracy, Judge
from conmim_lightning.models.features import FrozenFeatures
from conmim_lightning.models.linear_heads import LinearHeads, Norm
from conmim_lightning.optim.plan import Plan
from conmim_lightning.optim.wiring import Scaling
from conmim_lightning.tasks.labels import check_labelled, warn_of_normalisation
from conmim_lightning.tasks.planned import planned
from conmim_lightning.tasks.steps import log_rate
from conmim_lightning.weights.mismatch import check_checkpoint


class LinearProbeTask(LightningModule):
    """Trains a linear classifier for each way to read features and each learning rate, in one pass over the images.

    The best one on the validation images is taken for the test; those must not be the test's own, so the data module
    holds out a part of the training images. Reference: DINOv2, arXiv 2304.07193.

    Shapes: B images, K classes, M classifiers.

    Args:
        model: timm vision Transformer without classifier and with its final norm; it is not trained.
        normalize: uint8 images to what the model takes, on the training device.
        num_classes: K, >= 2.
        features: ways to read features, see ``FrozenFeatures``.
        rates: learning rates, at ``reference_batch`` where scaled.
        norm: of the features, "none", "layer" or "batch".
        optimizer: factory that takes parameter groups; its own rate counts for nothing.
        batch_size: images a step and device.
        epochs: see ``Plan``.
        warmup_epochs: see ``Plan``.
        min_lr: see ``Plan``.
        lr_scaling: see ``Plan``.
        reference_batch: see ``Plan``.

    Raises:
        ValueError: a number is out of its range, or the model has a classifier.
    """

    best: Tensor

    def __init__(
        self,
        *,
        model: nn.Module,
        normalize: nn.Module,
        num_classes: int,
        features: Sequence[str],
        rates: Sequence[float],
        optimizer: Callable[..., Optimizer],
        batch_size: int,
        epochs: float,
        warmup_epochs: float,
        norm: Norm = "none",
        min_lr: float = 0.0,
        lr_scaling: Scaling = "linear",
        reference_batch: int = 256,
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
        self.features = FrozenFeatures(model, features)
        self.heads = LinearHeads(self.features.widths, rates, num_classes, norm)
        self.normalize = normalize
        self.num_classes = num_classes
        self.classes: list[str] = []
        self.selection = HeadAccuracy(len(self.heads))
        self.judge = Judge(num_classes, ["test"])
        self.register_buffer("best", torch.tensor(0))

    def forward(self, images: Tensor) -> Tensor:
        """(B, C, H, W) normalised images to (B, K) logits of the best classifier."""
        return self.heads.one(int(self.best), self.features(images))

    def backbone(self, branch: str) -> nn.Module:
        """The frozen timm model; there is one only."""
        return self.features.backbone

    def setup(self, stage: str) -> None:
        """Take the classes' names from the data."""
        data: Any = self.trainer.datamodule  # type: ignore[attr-defined]
        self.classes = list(data.classes or self.classes)
        if stage == "fit":
            warn_of_normalisation(self.features.backbone, data)
            if len(self.heads) > 1 and not data.held_out_share and data.names["val"] == data.names["test"]:
                raise ValueError(
                    f"{len(self.heads)} classifiers to choose from need other images than the test's: "
                    "data.held_out_share=0.1, or a data.val of its own"
                )

    def on_after_batch_transfer(self, batch: Any, dataloader_idx: int) -> Any:
        """Normalise on the training device."""
        return batch._replace(image=self.normalize(batch.image))

    def training_step(self, batch: LabelledBatch, batch_idx: int) -> Tensor:
        """One batch: the classifiers' losses are summed, so each gets its own gradient alone."""
        logits = self.heads(self.features(batch.image))  # (M, B, K)
        labels = batch.label.expand(len(logits), -1)
        losses = F.cross_entropy(logits.flatten(0, 1), labels.flatten(), reduction="none").view(len(logits), -1).mean(1)
        self.log("train/loss", losses.min())
        return losses.sum()

    def optimizer_step(self, *args: Any, **kwargs: Any) -> None:
        """Log the largest learning rate with the step it is of."""
        super().optimizer_step(*args, **kwargs)
        log_rate(self)

    def validation_step(self, batch: LabelledBatch, batch_idx: int) -> None:
        """Count right answers of all classifiers."""
        self.selection.update(self.heads(self.features(batch.image)), batch.label)

    def on_validation_epoch_end(self) -> None:
        """Choose the classifier with most right answers."""
        shares = self.selection.compute()
        self.selection.reset()
        self.best.fill_(shares.argmax())
        self.log("val/top1", shares.max())

    def on_fit_end(self) -> None:
        """Say which one was chosen."""
        rank_zero_info(f"chosen of {len(self.heads)} classifiers: {self.heads.name(int(self.best))}")

    def test_step(self, batch: LabelledBatch, batch_idx: int) -> dict[str, Tensor]:
        """Count right answers of the chosen one; see ``predict_step`` for what is returned."""
        found = self.predict_step(batch, batch_idx)
        self.judge.update("test", found["scores"], batch.label, batch.broken)
        return found

    def on_test_epoch_end(self) -> None:
        """Log what was counted."""
        self.log_dict(self.judge.figures("test"))

    def predict_step(self, batch: LabelledBatch, batch_idx: int) -> dict[str, Tensor]:
        """Of a batch: "scores" (B, K) probabilities, "label" (B,), -1 for none, "index" (B,) number of the image."""
        return {"scores": self(batch.image).float().softmax(1), "label": batch.label, "index": batch.index}

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Keep the classes' names."""
        checkpoint["classes"] = self.classes

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Refuse a checkpoint of another architecture before anything is loaded."""
        self.classes = checkpoint.get("classes", [])
        check_checkpoint(self.state_dict(), checkpoint)

    def configure_optimizers(self) -> Any:
        """The factory's optimizer with a rate for each classifier; warm-up and cosine per optimizer step."""
        return planned(self)

    def make_optimizer(self, effective_batch: int) -> Optimizer:
        """The optimizer for a number of images per step."""
        return self.plan.optimizer(self.heads.groups(), effective_batch)

    def check_shapes(self, image: tuple[int, ...], scores: tuple[int, ...]) -> None:
        """Raise ValueError for images (C, H, W) or classes (K,) of other data than the model was made for."""
        check_labelled(self.features.backbone, image, scores, self.num_classes)
