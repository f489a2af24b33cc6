"""What a classifier says of each image, as a table."""

import csv
from pathlib import Path
from typing import Any

from lightning import Callback, LightningModule, Trainer

from conmim_lightning.callbacks.everyones import everyones

_SHOWN = 5


class Predictions(Callback):
    """Writes a tab-separated table: image, its class where it has one, the five likeliest classes and their scores.

    An image that cannot be read has the reason instead.

    Args:
        path: file to write, in the images' order; the first of several devices writes for all.
        all_scores: add a column for each class.
    """

    def __init__(self, path: str, *, all_scores: bool = False) -> None:
        self.path = Path(path)
        self.all_scores = all_scores
        self._rows: list[list[Any]] = []

    def on_test_batch_end(
        self, trainer: Trainer, pl_module: Any, outputs: Any, batch: Any, batch_idx: int, dataloader_idx: int = 0
    ) -> None:
        """Note a batch of test images."""
        self._note(trainer, pl_module, "test", outputs, batch)

    def on_predict_batch_end(
        self, trainer: Trainer, pl_module: Any, outputs: Any, batch: Any, batch_idx: int, dataloader_idx: int = 0
    ) -> None:
        """Note a batch of images without classes."""
        self._note(trainer, pl_module, "predict", outputs, batch)

    def on_test_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Write the table."""
        self._write(trainer, pl_module)

    def on_predict_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Write the table."""
        self._write(trainer, pl_module)

    def _note(self, trainer: Any, task: Any, part: str, found: Any, batch: Any) -> None:
        scores = found["scores"].float().cpu()
        likeliest = scores.topk(min(_SHOWN, scores.shape[1]))
        for place, number in enumerate(found["index"].tolist()):
            label = int(found["label"][place])
            reason = batch.broken[place].partition("\t")[2]
            row = [number, trainer.datamodule.name(part, number), task.classes[label] if label >= 0 else "", reason]
            if reason:
                self._rows.append(row)
                continue
            for value, answer in zip(likeliest.values[place].tolist(), likeliest.indices[place].tolist(), strict=True):
                row += [task.classes[answer], f"{value:.6g}"]
            if self.all_scores:
                row += [f"{value:.6g}" for value in scores[place].tolist()]
            self._rows.append(row)

    def _write(self, trainer: Trainer, task: Any) -> None:
        rows, self._rows = self._rows, []
        rows = everyones(trainer, rows)
        if not trainer.is_global_zero:
            return
        shown = range(1, min(_SHOWN, len(task.classes)) + 1)
        head = [
            "image",
            "class",
            "cannot_be_read",
            *(name for rank in shown for name in (f"answer_{rank}", f"score_{rank}")),
        ]
        head += [f"score of {name}" for name in task.classes] if self.all_scores else []
        self.path.parent.mkdir(parents=True, exist_ok=True)
        with self.path.open("w", encoding="utf-8", errors="surrogateescape", newline="") as file:
            writer = csv.writer(file, delimiter="\t", lineterminator="\n")
            writer.writerow(head)
            writer.writerows(row[1:] for row in sorted(rows, key=lambda row: row[0]))
