"""Report of a segmenter: IoU per class, and drawings of its predictions."""

import os
from pathlib import Path
from typing import Any

import torch
from lightning import Trainer
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from conmim_lightning.callbacks.reports.base import DenseReport
from conmim_lightning.callbacks.reports.drawing import (
    as_array,
    class_colors,
    draw_classes,
    draw_errors,
    save_panels,
)
from conmim_lightning.callbacks.reports.tables import confused_with, one_line
from conmim_lightning.loggers.media import Picture
from conmim_lightning.metrics.segmentation import class_ious


class SegmentationReport(DenseReport):
    """Write ``per_class.tsv``, ``pictures/`` (image, prediction, annotation, errors, legend), and predicted class maps.

    Predictions are PNG files named like the images, with the class values of the annotation files.

    Args:
        dirpath: see ``DenseReport``.
        pictures: see ``DenseReport``.
        predictions: folder for class maps; null writes none.
    """

    def on_test_end(self, trainer: Trainer, pl_module: Any) -> None:
        """Write the table of classes; log the drawn images."""
        self.write_table(trainer, _per_class(pl_module.metrics["test"].matrix.cpu(), one_line(pl_module.classes)))
        self._log_pictures(trainer, "test/predictions")

    def picture(self, task: Any, name: str, outputs: Any, batch: Any, position: int, image: Tensor) -> Picture:
        """Return a picture with two class maps."""
        prediction, label = outputs["predictions"][position].cpu(), batch.label[position].cpu()
        drawn = torch.cat([draw_classes(image, classes) for classes in (prediction, label)], 2)
        maps = {"prediction": prediction.numpy(), "annotation": label.numpy()}
        return Picture(as_array(image), name, class_maps=maps, classes=task.classes, drawn=as_array(drawn))

    def add(
        self, task: Any, name: str, index: int, outputs: Any, batch: Any, position: int, image: Tensor | None
    ) -> None:
        """Write and draw a prediction."""
        prediction = outputs["predictions"][position].cpu()
        if self.predictions is not None:
            self._write_map(task.trainer.datamodule.encode_map(prediction.numpy()), name)
        if image is not None:
            label = batch.label[position].cpu()
            _draw(image, prediction, label, task.classes, self.figure_path(name, index))

    def _write_map(self, values: NDArray[Any], name: str) -> None:
        assert self.predictions is not None
        if Path(name).is_absolute() or os.path.normpath(name).startswith(".."):
            raise ValueError(f"the prediction of {name!r} would lie outside of {str(self.predictions)!r}")
        target = self.predictions / Path(name).with_suffix(".png")
        target.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(values).save(target)


def _draw(image: Tensor, prediction: Tensor, label: Tensor, names: list[str], path: Path) -> None:
    """Draw image, prediction and, if there is an annotation, annotation and errors."""
    panels = [("image", image), ("prediction", draw_classes(image, prediction))]
    labelled = label >= 0
    if labelled.any():
        wrong = labelled & (prediction != label)
        fraction = float(wrong.sum() / labelled.sum())
        panels += [
            ("annotation", draw_classes(image, label)),
            (f"errors (white): {fraction:.1%} of the pixels", draw_errors(image, wrong)),
        ]
    shown = torch.cat([prediction.flatten(), label[labelled]]).unique().tolist()
    colors = class_colors(len(names))
    save_panels(panels, path, {names[label]: colors[label] for label in shown})


def _per_class(matrix: Tensor, names: list[str]) -> str:
    """Return one line per class: name, pixels, IoU, accuracy, most frequent error and its fraction."""
    ious, counts = class_ious(matrix).tolist(), matrix.double().numpy()
    lines = ["class\tpixels\tiou\taccuracy\tconfused_with\tfraction"]
    for label, name in enumerate(names):
        pixels = counts[label].sum()
        accuracy = counts[label, label] / pixels if pixels else float("nan")
        wrong = confused_with(counts, label, names)
        lines.append(f"{name}\t{int(pixels)}\t{ious[label]:.4f}\t{accuracy:.4f}\t{wrong}")
    return "\n".join(lines) + "\n"
