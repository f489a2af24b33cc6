"""Logging of the first and the last optimizer step, whatever the interval."""

from typing import Any

from lightning import Callback, LightningModule, Trainer


class LogFirstAndLastStep(Callback):
    """Log the metrics of the first and the last optimizer step, in addition to every ``trainer.log_every_n_steps``.

    It lowers the interval to 1 during these steps, so that all callbacks treat them as logging steps. The last step of
    a run that is stopped early is logged by Lightning.
    """

    def __init__(self) -> None:
        self._interval: int | None = None

    def on_train_batch_start(self, trainer: Any, pl_module: LightningModule, batch: Any, batch_idx: int) -> None:
        """Lower the interval for the first and the last step."""
        self._restore(trainer)
        last = getattr(pl_module, "planned_steps", trainer.estimated_stepping_batches)
        if trainer.global_step + 1 in (1, last):
            self._interval, trainer.log_every_n_steps = trainer.log_every_n_steps, 1

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Restore the interval."""
        self._restore(trainer)

    def _restore(self, trainer: Any) -> None:
        if self._interval is not None:
            self._interval, trainer.log_every_n_steps = None, self._interval
