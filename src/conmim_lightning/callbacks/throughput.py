"""Images a second, and the share of time spent waiting for data."""

import time
from typing import Any

import torch
from lightning import Callback, LightningModule, Trainer


class Throughput(Callback):
    """Logs ``speed/images_per_second`` (over all devices) and ``speed/data_wait`` (share of the time, 0 to 1).

    Both are means over the batches between two logged ones; the very first batch (warm-up) does not count, nor does
    what happens between batches that is not loading (probes, checkpoints), except on a GPU, where queued work may end
    in either.
    """

    def __init__(self) -> None:
        self.images_per_second = float("nan")
        self._ended: float | None = None
        self._reset()

    def _reset(self) -> None:
        self._wait = self._busy = 0.0
        self._images = 0

    def on_train_epoch_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """The time since the last batch went to something else."""
        self._ended = time.perf_counter() if trainer.global_step > 0 else None

    def on_train_batch_start(self, trainer: Trainer, pl_module: LightningModule, batch: Any, batch_idx: int) -> None:
        """Loading ends, computing starts."""
        self._started = time.perf_counter()
        if self._ended is not None:
            self._wait += self._started - self._ended

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Computing ends; log at Lightning's logging steps."""
        first, self._ended = self._ended is None, time.perf_counter()
        if first:
            return
        self._busy += self._ended - self._started
        self._images += len(batch.index) * trainer.world_size
        if (trainer.global_step + 1) % trainer.log_every_n_steps == 0:  # type: ignore[attr-defined]
            if trainer.strategy.root_device.type == "cuda":
                torch.cuda.synchronize()
                self._busy += time.perf_counter() - self._ended
                self._ended = time.perf_counter()
            total = self._wait + self._busy
            self.images_per_second = self._images / total
            figures = {"speed/images_per_second": self.images_per_second, "speed/data_wait": self._wait / total}
            pl_module.log_dict(figures)
            self._reset()
