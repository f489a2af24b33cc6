"""Report of a pre-training run: a figure of curves, and of views and similarities of a few images."""

from pathlib import Path
from typing import Any

from lightning import Callback, LightningModule, Trainer
from lightning.pytorch.utilities import rank_zero_only

from conmim_lightning.callbacks.online_probe import OnlineProbe
from conmim_lightning.callbacks.reports.image_rows import ImageRow, image_rows
from conmim_lightning.callbacks.reports.pretrain_figure import draw_report, row_picture
from conmim_lightning.loggers.media import Picture, log_pictures, media_loggers

_CURVES = ("train/loss", "train/retrieval_top1", "train/position_only_top1", "train/position_only_fraction")
_PICTURES = "pictures/similarity"
_EPOCHS = 10  # between two logs of the images without a probe


class PretrainReport(Callback):
    """Write a figure of training curves and held-out images when training ends; log the images at every probe.

    Args:
        path: PNG file to write.
        num_images: held-out images to show, >= 1.

    Raises:
        ValueError: num_images is below 1.
    """

    def __init__(self, path: str, num_images: int = 4) -> None:
        if num_images < 1:
            raise ValueError(f"num_images of the report must be at least 1, got {num_images}")
        self.path = Path(path)
        self.num_images = num_images
        self.curves: list[dict[str, float]] = []
        self._logged_step: int | None = None

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Log the images before the first step."""
        if trainer.global_step == 0:
            self._log(trainer, pl_module)

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Record the metrics logged last, at Lightning's logging steps."""
        step = trainer.global_step
        if step % trainer.log_every_n_steps == 0 and (not self.curves or self.curves[-1]["step"] != step):  # type: ignore[attr-defined]
            logged = trainer.callback_metrics
            self.curves.append({"step": step} | {key: float(logged[key]) for key in _CURVES if key in logged})

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Log the images at the epochs of the probe, also if it has no data."""
        probe = _probe(trainer)
        if (trainer.current_epoch + 1) % (probe.every_n_epochs if probe else _EPOCHS) == 0:
            self._log(trainer, pl_module)

    @rank_zero_only
    def on_fit_end(self, trainer: Trainer, pl_module: Any) -> None:
        """Draw the figure."""
        rows, probe = self._rows(trainer, pl_module), _probe(trainer)
        title = f"{self.path.parent.name}: {trainer.global_step} steps, {trainer.current_epoch} epochs"
        patches = rows[0].mask.numel()
        images = {"image": 1, "device": trainer.datamodule.batch_size}.get(getattr(pl_module.loss, "dictionary", ""), 0)  # type: ignore[attr-defined]
        history = probe.history if probe else []
        draw_report(self.path, self.curves, history, rows, title=title, patches=patches, candidates=images * patches)

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Log the last images, unless they were logged at the end of the epoch."""
        if self._logged_step != trainer.global_step:
            self._log(trainer, pl_module)

    def state_dict(self) -> dict[str, Any]:
        """Return the curves so far."""
        return {"curves": self.curves}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Restore the results of the resumed run."""
        self.curves = state_dict["curves"]

    def _rows(self, trainer: Any, pl_module: Any) -> list[ImageRow]:
        return image_rows(pl_module, trainer.datamodule.held_out_crops(self.num_images), _probe(trainer))

    @rank_zero_only
    def _log(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self._logged_step = trainer.global_step
        if media_loggers(trainer):
            pictures = [Picture(row_picture(row)) for row in self._rows(trainer, pl_module)]
            log_pictures(trainer, _PICTURES, pictures)


def _probe(trainer: Any) -> OnlineProbe | None:
    return next((callback for callback in trainer.callbacks if isinstance(callback, OnlineProbe)), None)
