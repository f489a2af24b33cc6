"""Accuracy of a classifier per class, and which classes it confuses."""

from pathlib import Path
from typing import Any

import numpy as np
import torch
from lightning import Callback, LightningModule, Trainer
from numpy.typing import NDArray
from torchmetrics.classification import MulticlassConfusionMatrix

from conmim_lightning.callbacks.reports.confusion_figure import confusion_figure
from conmim_lightning.callbacks.reports.drawing import figure_array
from conmim_lightning.callbacks.reports.tables import confused_with, one_line
from conmim_lightning.files import replacing, write_text
from conmim_lightning.loggers.media import Picture, log_pictures, log_tsv, media_loggers

_MOST_LOGGED = 1000  # classes of a confusion matrix that is logged at each validation


class ClassificationReport(Callback):
    """Write, when a test ends, ``per_class.tsv`` (images, accuracy, most frequent error) and ``confusion.png``.

    Both are also logged, and, of at most 1,000 classes, the confusion matrix of each validation.

    Args:
        dirpath: folder for both files.
    """

    def __init__(self, dirpath: str) -> None:
        self.dirpath = Path(dirpath)
        self._confusion: MulticlassConfusionMatrix | None = None

    def on_validation_start(self, trainer: Trainer, pl_module: Any) -> None:
        """Initialise the confusion matrix if it will be logged."""
        logs = media_loggers(trainer) and not trainer.sanity_checking and pl_module.num_classes <= _MOST_LOGGED
        self._confusion = _confusion_matrix(pl_module) if logs else None

    def on_validation_batch_end(
        self, trainer: Trainer, pl_module: Any, outputs: Any, batch: Any, batch_idx: int, dataloader_idx: int = 0
    ) -> None:
        """Count the predictions of a batch; images without a class are left out."""
        self._count(outputs)

    def on_validation_end(self, trainer: Trainer, pl_module: Any) -> None:
        """Log the confusion matrix."""
        if self._confusion is not None:
            matrix = self._confusion.compute().cpu().numpy()
            if matrix.sum():  # the linear probe has many predictions
                self._log(trainer, "val/confusion", matrix, list(pl_module.classes))

    def on_test_start(self, trainer: Trainer, pl_module: Any) -> None:
        """Initialise the confusion matrix."""
        self._confusion = _confusion_matrix(pl_module)

    def on_test_batch_end(
        self, trainer: Trainer, pl_module: Any, outputs: Any, batch: Any, batch_idx: int, dataloader_idx: int = 0
    ) -> None:
        """Count the predictions of a batch; images without a class are left out."""
        self._count(outputs)

    def on_test_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Sum over all devices; write and log table and figure."""
        assert self._confusion is not None
        matrix = self._confusion.compute().cpu().numpy()
        if trainer.is_global_zero:
            self.dirpath.mkdir(parents=True, exist_ok=True)
            names = list(pl_module.classes)  # type: ignore[arg-type]
            table = _per_class(matrix, one_line(names))
            write_text(self.dirpath / "per_class.tsv", table, errors="replace")
            log_tsv(trainer, "test/per_class", table)
            with replacing(self.dirpath / "confusion.png") as temporary:
                confusion_figure(matrix, names).savefig(temporary)
            self._log(trainer, "test/confusion", matrix, names)

    def _count(self, outputs: Any) -> None:
        if self._confusion is not None and outputs is not None:
            self._confusion.update(outputs["scores"].float(), outputs["label"])

    @staticmethod
    def _log(trainer: Trainer, key: str, matrix: NDArray[np.int64], names: list[str]) -> None:
        if trainer.is_global_zero and media_loggers(trainer):
            log_pictures(trainer, key, [Picture(figure_array(confusion_figure(matrix, names)))])


def _confusion_matrix(task: Any) -> MulticlassConfusionMatrix:
    matrix = MulticlassConfusionMatrix(task.num_classes, ignore_index=-1, validate_args=False).to(task.device)
    none = torch.zeros(0, dtype=torch.long, device=task.device)
    matrix.update(none, none)  # a device may receive no image
    return matrix


def _per_class(matrix: NDArray[np.int64], names: list[str]) -> str:
    """Return one line per class: name, images, top-1, most frequent error and its fraction."""
    lines = ["class\timages\ttop1\tconfused_with\tfraction"]
    for label, name in enumerate(names):
        images = int(matrix[label].sum())
        top1 = matrix[label, label] / images if images else float("nan")
        lines.append(f"{name}\t{images}\t{top1:.4f}\t{confused_with(matrix, label, names)}")
    return "\n".join(lines) + "\n"
