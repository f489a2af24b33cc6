"""Average precision of a detector per class, its detections, and drawings of them."""

import json
from collections.abc import Mapping, Sequence
from typing import Any

from lightning import LightningModule, Trainer
from torch import Tensor

from conmim_lightning.callbacks.gather import gather_objects
from conmim_lightning.callbacks.reports.base import DenseReport
from conmim_lightning.callbacks.reports.drawing import as_array, draw_objects, save_panels
from conmim_lightning.callbacks.reports.tables import one_line
from conmim_lightning.files import write_text
from conmim_lightning.loggers.media import BoxLabel, Picture


class DetectionReport(DenseReport):
    """Write ``per_class.tsv``, ``pictures/`` (detections and annotations), and COCO's results JSON.

    Args:
        dirpath: see ``DenseReport``.
        pictures: see ``DenseReport``.
        predictions: JSON file to write in COCO's results format; null writes none.
        min_score: smallest score of a detection that is drawn, 0 to 1.

    Raises:
        ValueError: a number is out of its range.
    """

    def __init__(
        self, dirpath: str, *, pictures: int = 8, predictions: str | None = None, min_score: float = 0.5
    ) -> None:
        super().__init__(dirpath, pictures=pictures, predictions=predictions)
        if not 0 <= min_score <= 1:
            raise ValueError(f"min_score must lie in [0, 1], got {min_score}")
        self.min_score = min_score
        self._results: list[dict[str, Any]] = []

    def on_test_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Write the detections of all devices, on the first device."""
        self._write_results(trainer)

    def on_test_end(self, trainer: Trainer, pl_module: Any) -> None:
        """Write the table of classes; log the drawn images."""
        self.write_table(trainer, _per_class(pl_module.metrics["test"].per_class, one_line(pl_module.classes)))
        self._log_pictures(trainer, "test/detections")

    def on_predict_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Write the detections."""
        self._write_results(trainer)

    def add(
        self, task: Any, name: str, index: int, outputs: Any, batch: Any, position: int, image: Tensor | None
    ) -> None:
        """Store and draw the detections in an image."""
        if self.predictions is None and image is None:
            return
        if self.predictions is not None:
            detections = _on_cpu(outputs["detections"][position])
            data, testing = task.trainer.datamodule, task.trainer.testing
            self._results += data.coco_results(index, detections, testing=testing)
        if image is None:
            return
        confident = self._confident(outputs, position)
        drawn = draw_objects(image, confident, task.classes, confident.scores.tolist())
        panels = [(f"detections, score >= {self.min_score}", drawn)]
        annotated = _on_cpu(batch.objects[position])
        if len(annotated.boxes):
            panels.append(("annotation", draw_objects(image, annotated, task.classes)))
        save_panels(panels, self.figure_path(name, index))

    def picture(self, task: Any, name: str, outputs: Any, batch: Any, position: int, image: Tensor) -> Picture:
        """Return a picture with the boxes of detections and annotations."""
        confident, annotated = self._confident(outputs, position), _on_cpu(batch.objects[position])
        drawn = draw_objects(image, confident, task.classes, confident.scores.tolist())
        boxes = {"detections": _boxes(confident, confident.scores.tolist()), "annotations": _boxes(annotated)}
        return Picture(as_array(image), name, boxes=boxes, classes=task.classes, drawn=as_array(drawn))

    def _confident(self, outputs: Any, position: int) -> Any:
        """Return the detections with at least the smallest score."""
        detections = _on_cpu(outputs["detections"][position])
        shown = detections.scores >= self.min_score
        return type(detections)(*(values[shown] if len(values) else values for values in detections))

    def _write_results(self, trainer: Trainer) -> None:
        results, self._results = self._results, []
        if self.predictions is None:
            return
        results = gather_objects(trainer, results)
        if trainer.is_global_zero:
            self.predictions.parent.mkdir(parents=True, exist_ok=True)
            results.sort(key=lambda entry: (str(entry["image_id"]), -entry["score"]))
            write_text(self.predictions, json.dumps(results))


def _on_cpu(objects: Any) -> Any:
    """Move a named tuple of tensors to the CPU."""
    return type(objects)(*(values.cpu() for values in objects))


def _boxes(objects: Any, scores: Sequence[float] | None = None) -> list[BoxLabel]:
    given: Sequence[float | None] = scores if scores is not None else [None] * len(objects.labels)
    rows = zip(objects.boxes.tolist(), objects.labels.tolist(), given, strict=True)
    return [BoxLabel(corners, label, score) for corners, label, score in rows]


def _per_class(precision: Mapping[str, Mapping[int, float]], names: Sequence[str]) -> str:
    """Return one line per class: name and average precision by kind."""
    lines = ["\t".join(["class", *(f"{kind}_ap" for kind in precision)])]
    for label, name in enumerate(names):
        values = (by_class.get(label, float("nan")) for by_class in precision.values())
        lines.append("\t".join([name, *(f"{value:.4f}" for value in values)]))
    return "\n".join(lines) + "\n"
