"""How a detector does on each class, what it found, and how that looks."""

import json
from typing import Any

from lightning import LightningModule, Trainer

from conmim_lightning.callbacks.dense_report import DenseReport
from conmim_lightning.callbacks.everyones import everyones
from conmim_lightning.callbacks.pictures import drawn_objects, panel


class DetectionReport(DenseReport):
    """Writes ``per_class.tsv``, ``pictures/`` (what was found, and the truth), and COCO's JSON of results.

    Args:
        dirpath: see ``DenseReport``.
        pictures: see ``DenseReport``.
        predictions: JSON file in the format that COCO's tools read; null for none.
        least_score: of an object that is drawn, 0 to 1.

    Raises:
        ValueError: a number is out of its range.
    """

    def __init__(
        self, dirpath: str, *, pictures: int = 8, predictions: str | None = None, least_score: float = 0.5
    ) -> None:
        super().__init__(dirpath, pictures=pictures, predictions=predictions)
        if not 0 <= least_score <= 1:
            raise ValueError(f"least_score must lie in [0, 1], got {least_score}")
        self.least_score = least_score
        self._results: list[dict[str, Any]] = []

    def on_test_epoch_end(self, trainer: Trainer, pl_module: Any) -> None:
        """Write both files; the first of several devices writes for all."""
        self._write_results(trainer)

    def on_test_end(self, trainer: Trainer, pl_module: Any) -> None:
        """Write the table of classes."""
        if trainer.is_global_zero:
            self.dirpath.mkdir(parents=True, exist_ok=True)
            text = _per_class(pl_module.class_precision, pl_module.classes)
            (self.dirpath / "per_class.tsv").write_text(text, encoding="utf-8")

    def on_predict_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Write the results."""
        self._write_results(trainer)

    def note(self, task: Any, name: str, index: int, outputs: Any, batch: Any, place: int, picture: Any) -> None:
        """Keep and draw what was found in an image."""
        if self.predictions is None and picture is None:
            return
        found = type(outputs["found"][place])(*(part.cpu() for part in outputs["found"][place]))
        if self.predictions is not None:
            self._results += task.trainer.datamodule.results_of(index, found, testing=task.trainer.testing)
        if picture is not None:
            self.save(self._side_by_side(picture, found, batch.objects[place], task.classes), name, index)

    def _side_by_side(self, picture: Any, found: Any, objects: Any, names: list[str]) -> Any:
        kept = found.scores >= self.least_score
        masks = found.masks[kept] if len(found.masks) else found.masks
        sure = found._replace(
            boxes=found.boxes[kept], labels=found.labels[kept], scores=found.scores[kept], masks=masks
        )
        title = f"found, score from {self.least_score}"
        parts = [(title, drawn_objects(picture, sure, names, sure.scores.tolist()))]
        truth = objects._replace(**{name: getattr(objects, name).cpu() for name in objects._fields})
        if len(truth.boxes):
            parts.append(("truth", drawn_objects(picture, truth, names)))
        return panel(parts, [])

    def _write_results(self, trainer: Any) -> None:
        results, self._results = self._results, []
        if self.predictions is None:
            return
        results = everyones(trainer, results)
        if trainer.is_global_zero:
            self.predictions.parent.mkdir(parents=True, exist_ok=True)
            results.sort(key=lambda entry: (str(entry["image_id"]), -entry["score"]))
            self.predictions.write_text(json.dumps(results))


def _per_class(precision: dict[str, dict[int, float]], names: list[str]) -> str:
    """A line a class: name and average precision by kind."""
    lines = ["\t".join(["class", *(f"{kind}_ap" for kind in precision)])]
    for number, name in enumerate(names):
        values = (found.get(number, float("nan")) for found in precision.values())
        lines.append("\t".join([name, *(f"{value:.4f}" for value in values)]))
    return "\n".join(lines) + "\n"
