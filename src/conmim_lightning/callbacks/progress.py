"""One bar for the whole run: loss, images a second, time left."""

import sys
from typing import Any

from lightning import LightningModule, Trainer
from lightning.pytorch.callbacks import ProgressBar
from tqdm import tqdm

_TERMINAL_SECONDS, _FILE_SECONDS = 0.2, 10.0


class RunProgressBar(ProgressBar):
    """A bar over all optimizer steps; written ten seconds apart where the output is no terminal.

    Args:
        title: what is going on.
    """

    def __init__(self, title: str = "pre-training") -> None:
        super().__init__()
        self.title = title
        self._bar: tqdm[Any] | None = None
        self._enabled = True

    def disable(self) -> None:
        """No bar; Lightning calls this on all ranks but the first."""
        self._enabled = False

    def enable(self) -> None:
        """Bar on."""
        self._enabled = True

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Open the bar at the step the run goes on from."""
        self._bar = tqdm(
            total=int(trainer.estimated_stepping_batches),
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
        """Advance; the figures are those last logged, so the bar never waits for the device."""
        assert self._bar is not None
        if trainer.global_step % trainer.log_every_n_steps == 0:  # type: ignore[attr-defined]
            metrics = trainer.callback_metrics
            shown = {
                "loss": "train/loss",
                "retrieval": "train/retrieval_top1",
                "top1": "val/top1",
                "img/s": "speed/images_per_second",
            }
            figures = {label: f"{float(metrics[key]):.3g}" for label, key in shown.items() if key in metrics}
            self._bar.set_postfix(figures, refresh=False)
        self._bar.update(trainer.global_step - self._bar.n)

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Close the bar."""
        if self._bar is not None:
            self._bar.close()

    def on_exception(self, trainer: Trainer, pl_module: LightningModule, exception: BaseException) -> None:
        """Close the bar, so that the message stands on a line of its own."""
        self.on_train_end(trainer, pl_module)
