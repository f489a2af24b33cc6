"""How a segmenter does on each class, and how its answers look."""

from pathlib import Path
from typing import Any

import numpy as np
from lightning import Trainer
from PIL import Image

from conmim_lightning.callbacks.dense_report import DenseReport
from conmim_lightning.callbacks.pictures import colours, over, panel
from conmim_lightning.metrics.segmentation import class_ious


class SegmentationReport(DenseReport):
    """Writes ``per_class.tsv``, ``pictures/`` (image, answer, truth, errors, with a legend), and class maps.

    Predictions are PNG files named as the images, with the values of the collection's own maps.

    Args:
        dirpath: see ``DenseReport``.
        pictures: see ``DenseReport``.
        predictions: folder for class maps; null for none.
    """

    def on_test_end(self, trainer: Trainer, pl_module: Any) -> None:
        """Write the table of classes."""
        if trainer.is_global_zero:
            self.dirpath.mkdir(parents=True, exist_ok=True)
            text = _per_class(pl_module.judges["of_test"].counted.cpu(), list(pl_module.classes))
            (self.dirpath / "per_class.tsv").write_text(text, encoding="utf-8")

    def note(self, task: Any, name: str, index: int, outputs: Any, batch: Any, place: int, picture: Any) -> None:
        """Write and draw an answer."""
        answer = outputs["answers"][place].cpu().numpy()
        if self.predictions is not None:
            self._write(answer + task.trainer.datamodule.first_class, name)
        if picture is not None:
            truth = batch.label[place].cpu().numpy()
            self.save(_drawn(picture, answer, truth, task.classes), name, index)

    def _write(self, values: Any, name: str) -> None:
        assert self.predictions is not None
        target = self.predictions / Path(name).with_suffix(".png")
        target.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(values.astype(np.uint8 if values.max() < 256 else np.uint16)).save(target)


def _drawn(picture: Any, answer: Any, truth: Any, names: list[str]) -> Any:
    """Image, answer and, where it is known, truth and errors."""
    parts = [("image", picture), ("answer", over(picture, answer))]
    known = truth >= 0
    if known.any():
        right = float((answer == truth)[known].mean())
        wrong = np.where(known & (answer != truth), 0, -1)
        parts += [
            ("truth", over(picture, truth)),
            (f"errors: {1 - right:.1%} of the pixels", over(picture, wrong, 0.8)),
        ]
    shown = sorted({*np.unique(answer).tolist(), *np.unique(truth[known]).tolist()})
    return panel(parts, [(names[number], colours(number + 1)[number]) for number in shown])


def _per_class(table: Any, names: list[str]) -> str:
    """A line a class: name, pixels, IoU, share of its pixels that are right, most frequent error and its share."""
    ious, counts = class_ious(table).tolist(), table.double().numpy()
    lines = ["class\tpixels\tiou\taccuracy\tmost_taken_for\tshare"]
    for number, name in enumerate(names):
        pixels, others = counts[number].sum(), counts[number].copy()
        others[number] = 0
        error = int(others.argmax())
        right = counts[number, number] / pixels if pixels else float("nan")
        wrong = f"{names[error]}\t{others[error] / pixels:.4f}" if others[error] else "\t"
        lines.append(f"{name}\t{int(pixels)}\t{ious[number]:.4f}\t{right:.4f}\t{wrong}")
    return "\n".join(lines) + "\n"
