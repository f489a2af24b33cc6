"""How a classifier does on each class, and what it takes for what."""

from pathlib import Path
from typing import Any

import numpy as np
from lightning import Callback, LightningModule, Trainer
from torchmetrics.classification import MulticlassConfusionMatrix

_NAMED = 40  # above so many classes the picture has no names
_NUMBERED = 20  # up to so many it has numbers


class ClassReport(Callback):
    """Writes, when a test ends, ``per_class.tsv`` (images, right answers, most frequent error) and ``confusion.png``.

    Args:
        dirpath: folder for both.
    """

    def __init__(self, dirpath: str) -> None:
        self.dirpath = Path(dirpath)
        self._confusion: MulticlassConfusionMatrix | None = None

    def on_test_start(self, trainer: Trainer, pl_module: Any) -> None:
        """Count anew."""
        self._confusion = MulticlassConfusionMatrix(pl_module.num_classes).to(pl_module.device)

    def on_test_batch_end(
        self, trainer: Trainer, pl_module: Any, outputs: Any, batch: Any, batch_idx: int, dataloader_idx: int = 0
    ) -> None:
        """Count a batch."""
        known = outputs["label"] >= 0
        if known.any():
            assert self._confusion is not None
            self._confusion.update(outputs["scores"][known].float(), outputs["label"][known])

    def on_test_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Write both files; every device takes part in the sum."""
        assert self._confusion is not None
        table = self._confusion.compute().cpu().numpy()
        if trainer.is_global_zero:
            self.dirpath.mkdir(parents=True, exist_ok=True)
            names = list(pl_module.classes)  # type: ignore[arg-type]
            (self.dirpath / "per_class.tsv").write_text(_per_class(table, names), encoding="utf-8", errors="replace")
            _draw(table, names, self.dirpath / "confusion.png")


def _per_class(table: np.ndarray, names: list[str]) -> str:
    """A line a class: name, images, share of right answers, most frequent error and its share."""
    lines = ["class\timages\ttop1\tmost_taken_for\tshare"]
    for number, name in enumerate(names):
        images = int(table[number].sum())
        others = table[number].copy()
        others[number] = 0
        error = int(others.argmax())
        wrong = f"{names[error]}\t{others[error] / images:.4f}" if others[error] else "\t"
        lines.append(f"{name}\t{images}\t{table[number, number] / images if images else float('nan'):.4f}\t{wrong}")
    return "\n".join(lines) + "\n"


def _draw(table: np.ndarray, names: list[str], path: Path) -> None:
    """Rows are true classes, columns answers; colours are shares of a row."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    shares = table / np.maximum(table.sum(1, keepdims=True), 1)
    side = min(16, max(5, 0.45 * len(names) + 2))
    figure = Figure(figsize=(side + 1, side), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.add_subplot()
    image = axes.imshow(shares, vmin=0, vmax=1, cmap="Blues", interpolation="nearest")
    axes.set(xlabel="answer", ylabel="class", title=f"{int(np.trace(table))} of {int(table.sum())} right")
    if len(names) <= _NAMED:
        axes.set_xticks(range(len(names)), names, rotation=90)
        axes.set_yticks(range(len(names)), names)
    if len(names) <= _NUMBERED:
        for row, column in np.argwhere(table > 0):
            colour = "white" if shares[row, column] > 0.5 else "black"
            axes.text(column, row, str(table[row, column]), ha="center", va="center", color=colour, fontsize=8)
    figure.colorbar(image, ax=axes, shrink=0.8, label="share of the class")
    figure.savefig(path, dpi=120)
