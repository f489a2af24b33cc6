"""Images a second, and the share of time spent waiting for data."""

import time
from typing import Any

import torch
from lightning import Callback, LightningModule, Trainer


class Throughput(Callback):
    """Logs ``speed/images_per_second`` (over all devices) and ``speed/data_wait`` (share of the time, 0 to 1).

    Both are means over the batches between two logged ones; the first batch (warm-up) does not count, nor does the time
    from an epoch's end to the next one's start. Waiting ends when the data module has the batch on the CPU, so the
    transfer and the perturbation count as work.
    """

    def __init__(self) -> None:
        self.images_per_second = float("nan")
        self._ended: float | None = None
        self._logged_step = 0
        self._reset()

    def _reset(self) -> None:
        self._wait = self._busy = 0.0
        self._images = 0

    def on_train_epoch_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """The time since the last batch went to something else."""
        self._ended = time.perf_counter() if trainer.global_step > 0 else None

    def on_train_batch_start(self, trainer: Trainer, pl_module: LightningModule, batch: Any, batch_idx: int) -> None:
        """Loading has ended when the data module says."""
        self._loaded = trainer.datamodule.loaded_at  # type: ignore[attr-defined]
        if self._ended is not None:
            self._wait += self._loaded - self._ended

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Computing ends; log at Lightning's logging steps, once a step."""
        due = trainer.global_step % trainer.log_every_n_steps == 0 and trainer.global_step != self._logged_step  # type: ignore[attr-defined]
        if due and trainer.strategy.root_device.type == "cuda":
            torch.cuda.synchronize()
        first, self._ended = self._ended is None, time.perf_counter()
        if first:
            return
        self._busy += self._ended - self._loaded
        self._images += len(batch.index) * trainer.world_size
        if due:
            total = self._wait + self._busy
            self.images_per_second = self._images / total
            pl_module.log_dict(
                {"speed/images_per_second": self.images_per_second, "speed/data_wait": self._wait / total}
            )
            self._logged_step = trainer.global_step
            self._reset()
