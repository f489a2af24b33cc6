"""What reports of segmentation and detection have in common."""

from pathlib import Path
from typing import Any

from lightning import Callback, LightningModule, Trainer

from conmim_lightning.callbacks.pictures import as_picture

FOLDER = "pictures"
"""Name of the folder for pictures, in the run's."""


class DenseReport(Callback):
    """Pictures of some images and predictions for all, of a test or of images without annotations.

    Args:
        dirpath: folder for everything.
        pictures: images to draw, evenly spaced over all; 0 for none.
        predictions: where predictions go; null for nowhere.

    Raises:
        ValueError: a negative number of pictures.
    """

    def __init__(self, dirpath: str, *, pictures: int = 8, predictions: str | None = None) -> None:
        if pictures < 0:
            raise ValueError(f"pictures must be at least 0, got {pictures}")
        self.dirpath = Path(dirpath)
        self.pictures = pictures
        self.predictions = None if predictions is None else Path(predictions)
        self._drawn: set[int] = set()

    def on_test_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Choose the images to draw."""
        self._begin(trainer, "test")

    def on_predict_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Choose the images to draw."""
        self._begin(trainer, "predict")

    def on_test_batch_end(
        self, trainer: Trainer, pl_module: Any, outputs: Any, batch: Any, batch_idx: int, dataloader_idx: int = 0
    ) -> None:
        """Note a batch of test images."""
        self._note(trainer, pl_module, "test", outputs, batch)

    def on_predict_batch_end(
        self, trainer: Trainer, pl_module: Any, outputs: Any, batch: Any, batch_idx: int, dataloader_idx: int = 0
    ) -> None:
        """Note a batch of images without annotations."""
        self._note(trainer, pl_module, "predict", outputs, batch)

    def note(self, task: Any, name: str, index: int, outputs: Any, batch: Any, place: int, picture: Any) -> None:
        """Take notice of an image.

        Args:
            task: that answered.
            name: of the image.
            index: number of the image.
            outputs: of the step.
            batch: of the step.
            place: of the image in both.
            picture: (H, W, 3) uint8 to draw on, in the file's size; None if it is not to be drawn.
        """
        raise NotImplementedError

    def save(self, picture: Any, name: str, index: int) -> None:
        """Write a picture under the name of its image."""
        folder = self.dirpath / FOLDER
        folder.mkdir(parents=True, exist_ok=True)
        picture.save(folder / f"{index:06d}_{Path(name).stem}.png")

    def _begin(self, trainer: Any, part: str) -> None:
        count = len(trainer.datamodule.sources[part])
        shown = min(self.pictures, count)
        self._drawn = {place * count // shown for place in range(shown)}

    def _note(self, trainer: Any, task: Any, part: str, outputs: Any, batch: Any) -> None:
        for place, index in enumerate(outputs["index"].tolist()):
            name = trainer.datamodule.name(part, index)
            if not batch.broken[place]:
                picture = as_picture(trainer.datamodule.pixels(part, index)) if index in self._drawn else None
                self.note(task, name, index, outputs, batch, place, picture)
