"""Accuracy of a classifier per class, and which classes it confuses."""

from pathlib import Path
from typing import Any

import numpy as np
from lightning import Callback, LightningModule, Trainer
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from numpy.typing import NDArray
from torchmetrics.classification import MulticlassConfusionMatrix

from conmim_lightning.callbacks.reports.tables import confused_with
from conmim_lightning.files import replacing, write_text

_MAX_NAMED = 40  # with more classes, the figure shows no names
_MAX_NUMBERED = 20  # with more classes, the figure shows no counts


class ClassificationReport(Callback):
    """Write, when a test ends, ``per_class.tsv`` (images, accuracy, most frequent error) and ``confusion.png``.

    Args:
        dirpath: folder for both files.
    """

    def __init__(self, dirpath: str) -> None:
        self.dirpath = Path(dirpath)
        self._confusion: MulticlassConfusionMatrix | None = None

    def on_test_start(self, trainer: Trainer, pl_module: Any) -> None:
        """Initialise the confusion matrix."""
        self._confusion = MulticlassConfusionMatrix(pl_module.num_classes, ignore_index=-1).to(pl_module.device)

    def on_test_batch_end(
        self, trainer: Trainer, pl_module: Any, outputs: Any, batch: Any, batch_idx: int, dataloader_idx: int = 0
    ) -> None:
        """Count the predictions of a batch; images without a class are left out."""
        assert self._confusion is not None
        self._confusion.update(outputs["scores"].float(), outputs["label"])

    def on_test_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Sum over all devices and write both files."""
        assert self._confusion is not None
        matrix = self._confusion.compute().cpu().numpy()
        if trainer.is_global_zero:
            self.dirpath.mkdir(parents=True, exist_ok=True)
            names = list(pl_module.classes)  # type: ignore[arg-type]
            write_text(self.dirpath / "per_class.tsv", _per_class(matrix, names), errors="replace")
            _draw(matrix, names, self.dirpath / "confusion.png")


def _per_class(matrix: NDArray[np.int64], names: list[str]) -> str:
    """Return one line per class: name, images, top-1, most frequent error and its fraction."""
    lines = ["class\timages\ttop1\tconfused_with\tfraction"]
    for label, name in enumerate(names):
        images = int(matrix[label].sum())
        top1 = matrix[label, label] / images if images else float("nan")
        lines.append(f"{name}\t{images}\t{top1:.4f}\t{confused_with(matrix, label, names)}")
    return "\n".join(lines) + "\n"


def _draw(matrix: NDArray[np.int64], names: list[str], path: Path) -> None:
    """Draw the confusion matrix: rows are classes, columns predictions; colours are fractions of a row."""
    fractions = matrix / np.maximum(matrix.sum(1, keepdims=True), 1)
    side = min(16, max(5, 0.45 * len(names) + 2))
    figure = Figure(figsize=(side + 1, side), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.add_subplot()
    image = axes.imshow(fractions, vmin=0, vmax=1, cmap="Blues", interpolation="nearest")
    axes.set(xlabel="prediction", ylabel="class", title=f"{int(np.trace(matrix))} of {int(matrix.sum())} correct")
    if len(names) <= _MAX_NAMED:
        axes.set_xticks(range(len(names)), names, rotation=90)
        axes.set_yticks(range(len(names)), names)
    if len(names) <= _MAX_NUMBERED:
        for row, column in np.argwhere(matrix > 0):
            color = "white" if fractions[row, column] > 0.5 else "black"
            axes.text(column, row, str(matrix[row, column]), ha="center", va="center", color=color, fontsize=8)
    figure.colorbar(image, ax=axes, shrink=0.8, label="fraction of the class")
    with replacing(path) as temporary:
        figure.savefig(temporary, dpi=120)
