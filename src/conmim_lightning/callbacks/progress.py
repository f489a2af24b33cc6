"""One progress bar for the whole run: loss, images per second, remaining time."""

import sys
from typing import Any

from lightning import LightningModule, Trainer
from lightning.pytorch.callbacks import ProgressBar
from tqdm import tqdm

_TERMINAL_SECONDS, _FILE_SECONDS = 0.2, 10.0
_SHOWN = {
    "loss": "train/loss",
    "retrieval": "train/retrieval_top1",
    "top1": "val/top1",
    "img/s": "speed/images_per_second",
}


class RunProgressBar(ProgressBar):
    """Progress bar over all optimizer steps; if the output is a file, a line is written every ten seconds.

    Args:
        title: text before the bar.
    """

    def __init__(self, title: str = "pre-training") -> None:
        super().__init__()
        self.title = title
        self._bar: tqdm[Any] | None = None
        self._enabled = True

    def disable(self) -> None:
        """Hide the bar; Lightning calls this on all ranks but the first."""
        self._enabled = False

    def enable(self) -> None:
        """Show the bar."""
        self._enabled = True

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Open the bar at the current step."""
        self._bar = tqdm(
            total=getattr(pl_module, "planned_steps", int(trainer.estimated_stepping_batches)),
            initial=trainer.global_step,
            desc=self.title,
            unit="step",
            disable=not self._enabled,
            dynamic_ncols=True,
            mininterval=_TERMINAL_SECONDS if sys.stderr.isatty() else _FILE_SECONDS,
        )

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Advance; show the metrics logged last, so that the bar never waits for the device."""
        assert self._bar is not None
        if trainer.global_step % trainer.log_every_n_steps == 0:  # type: ignore[attr-defined]
            logged = trainer.callback_metrics
            metrics = {label: f"{float(logged[key]):.3g}" for label, key in _SHOWN.items() if key in logged}
            self._bar.set_postfix(metrics, refresh=False)
        self._bar.update(trainer.global_step - self._bar.n)

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Close the bar."""
        if self._bar is not None:
            self._bar.close()

    def on_exception(self, trainer: Trainer, pl_module: LightningModule, exception: BaseException) -> None:
        """Close the bar, so that the message starts on a new line."""
        self.on_train_end(trainer, pl_module)
