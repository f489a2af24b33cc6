"""Probes of the teacher's features during pre-training, without effect on the training."""

from collections.abc import Callable
from typing import Any, cast

import torch
from lightning import Callback, LightningModule, Trainer
from lightning.pytorch.utilities import rank_zero_warn
from torch import Tensor
from torch.nn import functional as F

from conmim_lightning.batches import LabelledBatch, SegmentationBatch
from conmim_lightning.metrics.dense_probe import DenseProbe, patch_targets
from conmim_lightning.metrics.knn import KNNAccuracy

_PIXEL_SIDE = 32  # pixels per side of the images for the k-NN on raw pixels

FeatureFunction = Callable[[Tensor], Tensor]
"""Function from normalised images (B, C, H, W) to patch tokens (B, N, D) or one vector per image (B, D)."""


class OnlineProbe(Callback):
    """Log k-NN accuracy (if there are labels) and dense probes (if there are class maps) of the teacher's features.

    Metrics: ``val/knn_top1``, ``val/knn_top5``, ``val/dense_auroc_{object,border,class}``. Before the first step, raw
    pixels and the initial weights are measured as well, with ``_pixels`` and ``_start`` appended. Later measurements
    log these baselines again, so that charts show them as lines. ``_error`` is appended to standard errors.

    Args:
        every_n_epochs: epochs between two measurements, >= 1; the last is always at the end.
        num_neighbors: k of the k-NN.
        temperature: temperature of the k-NN's votes.
        block: index of the block whose tokens the dense probe reads, from 0; null for the tokens after the final norm.

    Raises:
        ValueError: a number is out of its range.
    """

    def __init__(
        self, *, every_n_epochs: int = 10, num_neighbors: int = 20, temperature: float = 0.07, block: int | None = None
    ) -> None:
        if every_n_epochs < 1:
            raise ValueError(f"every_n_epochs must be at least 1, got {every_n_epochs}")
        self.every_n_epochs = every_n_epochs
        self.knn = KNNAccuracy(num_neighbors=num_neighbors, temperature=temperature)
        self.block = block
        self.history: list[dict[str, float]] = []
        self.dense: DenseProbe | None = None

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Measure the baselines, unless the run was resumed."""
        if trainer.global_step == 0:
            pixels = self._measure(trainer, pl_module, self._pixel_tokens(pl_module), _shrink)
            start = self._measure(trainer, pl_module, *self._teacher_features(pl_module))
            baselines = {
                f"{name}_{kind}": value
                for kind, values in (("pixels", pixels), ("start", start))
                for name, value in values.items()
                if not name.endswith("_error")
            }
            self._log(trainer, start | baselines)

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Measure the teacher every n epochs."""
        if (trainer.current_epoch + 1) % self.every_n_epochs == 0:
            self._log(trainer, self._measure(trainer, pl_module, *self._teacher_features(pl_module)))

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Measure the final teacher."""
        if not self.history or self.history[-1]["step"] != trainer.global_step:
            self._log(trainer, self._measure(trainer, pl_module, *self._teacher_features(pl_module)))

    def on_fit_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Measure the final teacher of a run that was killed after its last step and had nothing more to train."""
        device = pl_module.device
        pl_module.to(trainer.strategy.root_device)
        self.on_train_end(trainer, pl_module)
        pl_module.to(device)

    def state_dict(self) -> dict[str, Any]:
        """Return all results so far."""
        return {"history": self.history}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Restore the results of the resumed run."""
        self.history = state_dict["history"]

    def _log(self, trainer: Trainer, metrics: dict[str, float]) -> None:
        if not metrics:
            return
        baselines = {} if not self.history else self._baselines(self.history[0])
        self.history.append({"step": trainer.global_step} | metrics)
        metrics = baselines | metrics
        trainer.callback_metrics.update({name: torch.tensor(value) for name, value in metrics.items()})
        for logger in trainer.loggers:
            step = max(0, trainer.global_step - 1)  # the step before, as Lightning
            logger.log_metrics(metrics | {"epoch": trainer.current_epoch}, step=step)
            logger.save()

    @staticmethod
    def _baselines(first: dict[str, float]) -> dict[str, float]:
        return {name: value for name, value in first.items() if name.endswith(("_pixels", "_start"))}

    @torch.no_grad()
    def _measure(
        self, trainer: Trainer, pl_module: Any, dense_features: FeatureFunction, pooled_features: FeatureFunction
    ) -> dict[str, float]:
        """Return all metrics of dense features, for the dense probe, and pooled features, for the k-NN."""
        device, data = pl_module.device, trainer.datamodule  # type: ignore[attr-defined]
        metrics: dict[str, KNNAccuracy | DenseProbe] = {}
        for probe, role, loader in data.probe_loaders():
            if probe not in metrics:
                metrics[probe] = self.knn if probe == "knn" else DenseProbe(num_classes=data.num_map_classes)
                metrics[probe].to(device).reset()
            unreadable, metric = 0, cast(Any, metrics[probe])
            for batch in loader:
                images, labels = _readable(batch)
                unreadable += len(batch.broken) - len(images)
                if not images:
                    continue
                image, label = torch.stack(images).to(device), torch.stack(labels).to(device)
                if isinstance(batch, SegmentationBatch):
                    label = patch_targets(label, pl_module.model.teacher_encoder.grid_size, data.num_map_classes)
                features = pooled_features if isinstance(batch, LabelledBatch) else dense_features
                metric.update(features(pl_module.perturbation.normalize(image)), label, reference=role == "reference")
            total = torch.tensor(float(unreadable), device=device)
            if unreadable := int(trainer.strategy.reduce(total, reduce_op="sum")):  # type: ignore[arg-type]
                rank_zero_warn(f"{unreadable} {role} images of the {probe} probe cannot be read and are left out")
        names = {"knn": "val/knn", "dense": "val/dense_auroc"}
        results = {
            f"{names[probe]}_{key}": float(value)
            for probe, metric in metrics.items()
            for key, value in metric.compute().items()
        }
        for metric in metrics.values():
            metric.reset()  # drops the features, not a fitted probe
        self.dense = cast(DenseProbe | None, metrics.get("dense"))
        return results

    def _teacher_features(self, pl_module: Any) -> tuple[FeatureFunction, FeatureFunction]:
        encoder = pl_module.model.teacher_encoder
        return (
            lambda images: encoder.patch_tokens(images, self.block),
            lambda images: encoder.patch_tokens(images).mean(1),
        )

    @staticmethod
    def _pixel_tokens(pl_module: Any) -> FeatureFunction:
        rows, columns = pl_module.model.teacher_encoder.grid_size
        return lambda images: F.unfold(
            images, (images.shape[2] // rows, images.shape[3] // columns), stride=images.shape[2] // rows
        ).transpose(1, 2)


def _readable(batch: LabelledBatch | SegmentationBatch) -> tuple[list[Tensor], list[Tensor]]:
    """Return the images of a batch that could be read, and their labels."""
    readable = [position for position, reason in enumerate(batch.broken) if not reason]
    return [batch.image[position] for position in readable], [batch.label[position] for position in readable]


def _shrink(images: Tensor) -> Tensor:
    """Return (B, C, H, W) images, shrunk and flattened."""
    return F.interpolate(images, size=min(_PIXEL_SIDE, images.shape[-1]), mode="area").flatten(1)
