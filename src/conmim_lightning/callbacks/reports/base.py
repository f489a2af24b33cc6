"""Base class of the reports on segmentation and detection."""

from pathlib import Path
from typing import Any

from lightning import Callback, LightningModule, Trainer
from torch import Tensor

from conmim_lightning.callbacks.gather import gather_objects
from conmim_lightning.callbacks.reports.drawing import as_rgb
from conmim_lightning.files import write_text
from conmim_lightning.loggers.media import Picture, log_pictures, log_tsv, media_loggers

_LOGGED = 4  # validation images that are logged
FIGURES = "pictures"
"""Name of the folder for drawn images within the run's folder."""


class DenseReport(Callback):
    """Draw some images and write the predictions of all images, of the test split or without annotations.

    A few validation images and the drawn test images are logged. A subclass implements ``add`` and ``picture``.

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
        self._pictures: list[Picture] = []

    def on_test_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Choose the images to draw."""
        self._choose(trainer, "test", self.pictures)

    def on_predict_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Choose the images to draw."""
        self._choose(trainer, "predict", self.pictures)

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

    def on_validation_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Choose the images to log."""
        logs = self.pictures and not trainer.sanity_checking and media_loggers(trainer)
        self._choose(trainer, "val", _LOGGED if logs else 0)

    def on_validation_batch_end(
        self, trainer: Trainer, pl_module: Any, outputs: Any, batch: Any, batch_idx: int, dataloader_idx: int = 0
    ) -> None:
        """Add the chosen images of a validation batch."""
        for position, index in self._drawn(outputs, batch):
            image = as_rgb(trainer.datamodule.pixels("val", index))  # type: ignore[attr-defined]
            name = trainer.datamodule.image_name("val", index)  # type: ignore[attr-defined]
            self._pictures.append(self.picture(pl_module, name, outputs, batch, position, image))

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Log the chosen images."""
        self._log_pictures(trainer, "val/predictions")

    def picture(self, task: Any, name: str, outputs: Any, batch: Any, position: int, image: Tensor) -> Picture:
        """Return a picture with prediction and annotation, for loggers; arguments as for ``add``."""
        raise NotImplementedError

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
        """Write ``per_class.tsv`` on the first device, and log it."""
        if trainer.is_global_zero:
            self.dirpath.mkdir(parents=True, exist_ok=True)
            write_text(self.dirpath / "per_class.tsv", text, errors="replace")
            log_tsv(trainer, "test/per_class", text)

    def _choose(self, trainer: Any, split: str, most: int) -> None:
        count = len(trainer.datamodule.sources[split]) if most else 0
        evaluated = min(getattr(trainer.datamodule, "eval_limit", None) or count, count)
        drawn = min(most, evaluated)
        positions = [position * evaluated // drawn for position in range(drawn)]
        self._to_draw = {position * count // evaluated for position in positions}

    def _drawn(self, outputs: Any, batch: Any) -> list[tuple[int, int]]:
        """Return position and index of the images of a batch that are drawn."""
        readable = [pair for pair in enumerate(outputs["index"].tolist()) if not batch.broken[pair[0]]]
        return [(position, index) for position, index in readable if index in self._to_draw]

    def _add_batch(self, trainer: Any, task: Any, split: str, outputs: Any, batch: Any) -> None:
        data = trainer.datamodule
        drawn = {position for position, _ in self._drawn(outputs, batch)}
        for position, index in enumerate(outputs["index"].tolist()):
            if batch.broken[position]:
                continue
            name = data.image_name(split, index)
            image = as_rgb(data.pixels(split, index)) if position in drawn else None
            self.add(task, name, index, outputs, batch, position, image)
            if image is not None and media_loggers(trainer):
                self._pictures.append(self.picture(task, name, outputs, batch, position, image))

    def _log_pictures(self, trainer: Trainer, key: str) -> None:
        """Log the pictures of all devices."""
        pictures, self._pictures = gather_objects(trainer, self._pictures), []
        log_pictures(trainer, key, pictures)
