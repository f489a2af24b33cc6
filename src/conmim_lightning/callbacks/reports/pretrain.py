"""Report of a pre-training run: a figure of curves, and of views and similarities of a few images."""

from pathlib import Path
from typing import Any

import torch
from lightning import Callback, LightningModule, Trainer
from lightning.pytorch.utilities import rank_zero_only

from conmim_lightning.callbacks.online_probe import OnlineProbe
from conmim_lightning.callbacks.reports.pretrain_figure import draw_report, image_rows

_CURVES = ("train/loss", "train/retrieval_top1", "train/position_only_top1", "train/position_only_fraction")


class PretrainReport(Callback):
    """Write a figure of training curves and held-out images when training ends.

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

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Record the metrics logged last, at Lightning's logging steps."""
        step = trainer.global_step
        if step % trainer.log_every_n_steps == 0 and (not self.curves or self.curves[-1]["step"] != step):  # type: ignore[attr-defined]
            logged = trainer.callback_metrics
            self.curves.append({"step": step} | {key: float(logged[key]) for key in _CURVES if key in logged})

    @rank_zero_only
    def on_fit_end(self, trainer: Trainer, pl_module: Any) -> None:
        """Draw the figure."""
        probe = next((c for c in trainer.callbacks if isinstance(c, OnlineProbe)), None)  # type: ignore[attr-defined]
        batch = trainer.datamodule.held_out_crops(self.num_images)  # type: ignore[attr-defined]
        with torch.no_grad(), torch.compiler.set_stance("force_eager"):  # the model is on the CPU again
            rows = image_rows(pl_module, batch, probe)
        draw_report(self.path, self.curves, probe.history if probe else [], rows)

    def state_dict(self) -> dict[str, Any]:
        """Return the curves so far."""
        return {"curves": self.curves}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Restore the results of the resumed run."""
        self.curves = state_dict["curves"]
