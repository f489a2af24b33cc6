"""What the teacher's features are worth while it learns, without any effect on training."""

from collections.abc import Callable
from typing import Any, cast

import torch
from lightning import Callback, LightningModule, Trainer
from lightning.pytorch.utilities import rank_zero_warn
from torch import Tensor
from torch.nn import functional as F
from torchmetrics import Metric

from conmim_lightning.batches import LabelledBatch
from conmim_lightning.metrics.dense_probe import DenseProbe, patch_targets
from conmim_lightning.metrics.knn import KNNAccuracy

_PIXEL_SIDE = 32  # the k-NN on raw pixels compares images of this size

Tokens = Callable[[Tensor], Tensor]
"""Normalised images (B, C, H, W) to patch tokens (B, N, D)."""


class OnlineProbe(Callback):
    """k-NN accuracy (where labels exist) and dense probes (where class maps exist) of the teacher.

    Logged as ``val/knn_top1``, ``val/knn_top5``, ``val/dense_auroc_{object,border,class}``. Before the first step the
    same figures are taken of raw pixels and of the weights at the start, and logged with ``_pixels`` and ``_start``
    appended.

    Args:
        every_n_epochs: epochs between two probes, >= 1; there is always one at the end.
        num_neighbors: k of the k-NN.
        temperature: of the k-NN's votes.
        block: block whose tokens the dense probe reads, from 0; null reads after the final norm.

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
        """Baselines; not again after a resume."""
        if trainer.global_step == 0:
            pixels = self._measure(trainer, pl_module, self._pixel_tokens(pl_module), _shrink)
            start = self._measure(trainer, pl_module, *self._teacher_tokens(pl_module))
            baselines = {f"{name}_pixels": value for name, value in pixels.items()}
            baselines |= {f"{name}_start": value for name, value in start.items()}
            self._log(trainer, start | baselines)

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Probe the teacher every n epochs."""
        if (trainer.current_epoch + 1) % self.every_n_epochs == 0:
            self._log(trainer, self._measure(trainer, pl_module, *self._teacher_tokens(pl_module)))

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Probe the teacher as it leaves training."""
        if not self.history or self.history[-1]["step"] != trainer.global_step:
            self._log(trainer, self._measure(trainer, pl_module, *self._teacher_tokens(pl_module)))

    def state_dict(self) -> dict[str, Any]:
        """All figures so far."""
        return {"history": self.history}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Go on after a resume."""
        self.history = state_dict["history"]

    def _log(self, trainer: Trainer, figures: dict[str, float]) -> None:
        if not figures:
            return
        self.history.append({"step": trainer.global_step} | figures)
        trainer.callback_metrics.update({name: torch.tensor(value) for name, value in figures.items()})
        for logger in trainer.loggers:
            logger.log_metrics(figures, step=trainer.global_step)

    @torch.no_grad()
    def _measure(self, trainer: Trainer, pl_module: Any, dense_tokens: Tokens, pooled: Tokens) -> dict[str, float]:
        """All figures of one kind of features; dense tokens for the dense probe, pooled features for the k-NN."""
        device, data = pl_module.device, trainer.datamodule  # type: ignore[attr-defined]
        metrics: dict[str, KNNAccuracy | DenseProbe] = {}
        for probe, role, loader in data.probe_loaders():
            if probe not in metrics:
                metrics[probe] = self.knn if probe == "knn" else DenseProbe(num_classes=data.num_map_classes)
                metrics[probe].to(device).reset()
            missing = len(loader.sampler)
            for batch in filter(None, loader):
                missing -= len(batch.index)
                images = pl_module.perturbation.normalize(batch.image.to(device))
                if isinstance(batch, LabelledBatch):
                    features, target = pooled(images), batch.label.to(device)
                else:
                    grid = pl_module.model.teacher_encoder.grid_size
                    features = dense_tokens(images)
                    target = patch_targets(batch.class_map.to(device), grid, data.num_map_classes)
                cast(Metric, metrics[probe]).update(features, target, reference=role == "reference")
            missing = int(trainer.strategy.reduce(torch.tensor(float(missing), device=device), reduce_op="sum"))  # type: ignore[arg-type]
            if missing:
                rank_zero_warn(f"{missing} {role} images of the {probe} probe cannot be read and are left out")
        names = {"knn": "val/knn", "dense": "val/dense_auroc"}
        found = {f"{names[p]}_{key}": float(value) for p, m in metrics.items() for key, value in m.compute().items()}
        for metric in metrics.values():
            metric.reset()  # the features go, a fitted probe stays
        self.dense = cast(DenseProbe | None, metrics.get("dense"))
        return found

    def _teacher_tokens(self, pl_module: Any) -> tuple[Tokens, Tokens]:
        encoder = pl_module.model.teacher_encoder
        return (
            lambda images: encoder.patch_tokens(images, self.block),
            lambda images: encoder.patch_tokens(images).mean(1),
        )

    @staticmethod
    def _pixel_tokens(pl_module: Any) -> Tokens:
        rows, columns = pl_module.model.teacher_encoder.grid_size
        return lambda images: F.unfold(
            images, (images.shape[2] // rows, images.shape[3] // columns), stride=images.shape[2] // rows
        ).transpose(1, 2)


def _shrink(images: Tensor) -> Tensor:
    """(B, C, H, W) to flattened small images."""
    return F.interpolate(images, size=min(_PIXEL_SIDE, images.shape[-1]), mode="area").flatten(1)
