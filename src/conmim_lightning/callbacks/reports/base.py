"""Base class of the reports on segmentation and detection."""

from pathlib import Path
from typing import Any

from lightning import Callback, LightningModule, Trainer
from torch import Tensor

from conmim_lightning.callbacks.reports.drawing import as_rgb
from conmim_lightning.files import write_text

FIGURES = "pictures"
"""Name of the folder for drawn images within the run's folder."""


class DenseReport(Callback):
    """Draw some images and write the predictions of all images, of the test split or without annotations.

    A subclass implements ``add``.

    Args:
        dirpath: folder for all files.
        pictures: number of images to draw, evenly spaced; 0 draws none.
        predictions: file or folder for the predictions; null writes none.

    Raises:
        ValueError: pictures is negative.
    """

    def __init__(self, dirpath: str, *, pictures: int = 8, predictions: str | None = None) -> None:
        if pictures < 0:
            raise ValueError(f"pictures must be at least 0, got {pictures}")
        self.dirpath = Path(dirpath)
        self.pictures = pictures
        self.predictions = None if predictions is None else Path(predictions)
        self._to_draw: set[int] = set()

    def on_test_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Choose the images to draw."""
        self._choose(trainer, "test")

    def on_predict_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Choose the images to draw."""
        self._choose(trainer, "predict")

    def on_test_batch_end(
        self, trainer: Trainer, pl_module: Any, outputs: Any, batch: Any, batch_idx: int, dataloader_idx: int = 0
    ) -> None:
        """Add a batch of test images."""
        self._add_batch(trainer, pl_module, "test", outputs, batch)

    def on_predict_batch_end(
        self, trainer: Trainer, pl_module: Any, outputs: Any, batch: Any, batch_idx: int, dataloader_idx: int = 0
    ) -> None:
        """Add a batch of images without annotations."""
        self._add_batch(trainer, pl_module, "predict", outputs, batch)

    def add(
        self, task: Any, name: str, index: int, outputs: Any, batch: Any, position: int, image: Tensor | None
    ) -> None:
        """Add one image and its prediction.

        Args:
            task: task that made the prediction.
            name: name of the image.
            index: index of the image in its source.
            outputs: outputs of the step.
            batch: batch of the step.
            position: position of the image in outputs and batch.
            image: (3, H, W) uint8 in the file's size; None if the image is not drawn.
        """
        raise NotImplementedError

    def figure_path(self, name: str, index: int) -> Path:
        """Return the path for the drawing of an image."""
        return self.dirpath / FIGURES / f"{index:06d}_{Path(name).stem}.png"

    def write_table(self, trainer: Trainer, text: str) -> None:
        """Write ``per_class.tsv`` on the first device."""
        if trainer.is_global_zero:
            self.dirpath.mkdir(parents=True, exist_ok=True)
            write_text(self.dirpath / "per_class.tsv", text, errors="replace")

    def _choose(self, trainer: Any, split: str) -> None:
        count = len(trainer.datamodule.sources[split])
        drawn = min(self.pictures, count)
        self._to_draw = {position * count // drawn for position in range(drawn)}

    def _add_batch(self, trainer: Any, task: Any, split: str, outputs: Any, batch: Any) -> None:
        data = trainer.datamodule
        for position, index in enumerate(outputs["index"].tolist()):
            if not batch.broken[position]:
                image = as_rgb(data.pixels(split, index)) if index in self._to_draw else None
                self.add(task, data.image_name(split, index), index, outputs, batch, position, image)
