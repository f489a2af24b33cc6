"""Table of a classifier's predictions for each image."""

import csv
from pathlib import Path
from typing import Any

from lightning import Callback, LightningModule, Trainer

from conmim_lightning.callbacks.gather import gather_objects
from conmim_lightning.files import replacing

_SHOWN = 5


class Predictions(Callback):
    """Write a tab-separated table: image, its class if it has one, the five best predictions and their scores.

    For an image that cannot be read, the reason replaces the predictions.

    Args:
        path: file to write, in the order of the images; the first device writes for all devices.
        all_scores: whether to add one column per class.
    """

    def __init__(self, path: str, *, all_scores: bool = False) -> None:
        self.path = Path(path)
        self.all_scores = all_scores
        self._rows: list[list[Any]] = []

    def on_test_batch_end(
        self, trainer: Trainer, pl_module: Any, outputs: Any, batch: Any, batch_idx: int, dataloader_idx: int = 0
    ) -> None:
        """Add a batch of test images."""
        self._add(trainer, pl_module, "test", outputs, batch)

    def on_predict_batch_end(
        self, trainer: Trainer, pl_module: Any, outputs: Any, batch: Any, batch_idx: int, dataloader_idx: int = 0
    ) -> None:
        """Add a batch of images without classes."""
        self._add(trainer, pl_module, "predict", outputs, batch)

    def on_test_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Write the table."""
        self._write(trainer, pl_module)

    def on_predict_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Write the table."""
        self._write(trainer, pl_module)

    def _add(self, trainer: Any, task: Any, split: str, outputs: Any, batch: Any) -> None:
        scores = outputs["scores"].float().cpu()
        best = scores.topk(min(_SHOWN, scores.shape[1]))
        for position, index in enumerate(outputs["index"].tolist()):
            label = int(outputs["label"][position])
            reason = batch.broken[position].partition("\t")[2]
            row = [
                index,
                trainer.datamodule.image_name(split, index),
                task.classes[label] if label >= 0 else "",
                reason,
            ]
            if not reason:
                predicted = zip(best.indices[position].tolist(), best.values[position].tolist(), strict=True)
                row += [cell for label, score in predicted for cell in (task.classes[label], f"{score:.6g}")]
                row += [f"{score:.6g}" for score in scores[position].tolist()] if self.all_scores else []
            self._rows.append(row)

    def _write(self, trainer: Trainer, task: Any) -> None:
        rows, self._rows = self._rows, []
        rows = gather_objects(trainer, rows)
        if not trainer.is_global_zero:
            return
        ranks = range(1, min(_SHOWN, len(task.classes)) + 1)
        header = ["image", "class", "error", *(f"{name}_{rank}" for rank in ranks for name in ("prediction", "score"))]
        header += [f"score of {name}" for name in task.classes] if self.all_scores else []
        with (
            replacing(self.path) as temporary,
            temporary.open("w", encoding="utf-8", errors="surrogateescape", newline="") as file,
        ):
            returns = any("\r" in cell for row in rows for cell in row[1:3])  # Python 3.12 would not quote them
            quoting: Any = csv.QUOTE_ALL if returns else csv.QUOTE_MINIMAL
            writer = csv.writer(file, delimiter="\t", lineterminator="\n", quoting=quoting)
            writer.writerow(header)
            writer.writerows(row[1:] for row in sorted(rows, key=lambda row: row[0]))
