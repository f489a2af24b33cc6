"""Images per second, and the fraction of time spent waiting for data."""

import time
from typing import Any

import torch
from lightning import Callback, LightningModule, Trainer


class Throughput(Callback):
    """Log ``speed/images_per_second`` (over all devices) and ``speed/data_wait`` (fraction of the time, 0 to 1).

    Both are means over the batches between two logging steps, excluding the first batch (warm-up) and the time between
    epochs. Waiting ends when the data module has the batch on the CPU, so transfer and perturbation count as work.
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
        """Exclude the time since the last batch."""
        self._ended = time.perf_counter() if trainer.global_step > 0 else None

    def on_train_batch_start(self, trainer: Trainer, pl_module: LightningModule, batch: Any, batch_idx: int) -> None:
        """Add the time spent waiting for the batch."""
        self._loaded = trainer.datamodule.loaded_at  # type: ignore[attr-defined]
        if self._ended is not None:
            self._wait += self._loaded - self._ended

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Add the time of the step; log at Lightning's logging steps, once per step."""
        due = trainer.global_step % trainer.log_every_n_steps == 0 and trainer.global_step != self._logged_step  # type: ignore[attr-defined]
        if due:
            _synchronize(trainer)
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


class BatchTimer(Callback):
    """Measure the time of groups of batches, and the time that each group waited for data; for benchmarks.

    Args:
        warmup: batches not counted.
        group: batches per group; a GPU is synchronised only at the end of a group.

    Attributes:
        seconds: duration of each complete group.
        waits: seconds that each group waited for data.
    """

    def __init__(self, *, warmup: int, group: int) -> None:
        self.warmup = warmup
        self.group = group
        self.seconds: list[float] = []
        self.waits: list[float] = []
        self._done = 0
        self._wait = 0.0
        self._started = self._ended = 0.0

    def on_train_batch_start(self, trainer: Trainer, pl_module: LightningModule, batch: Any, batch_idx: int) -> None:
        """Add the time spent waiting for the batch."""
        self._wait += max(0.0, trainer.datamodule.loaded_at - self._ended)  # type: ignore[attr-defined]

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """End the group if it is complete."""
        self._done += 1
        counted = self._done - self.warmup
        if counted >= 0 and counted % self.group == 0:
            _synchronize(trainer)
            now = time.perf_counter()
            if counted:
                self.seconds.append(now - self._started)
                self.waits.append(self._wait)
            self._started, self._wait = now, 0.0
        self._ended = time.perf_counter()


def _synchronize(trainer: Trainer) -> None:
    if trainer.strategy.root_device.type == "cuda":
        torch.cuda.synchronize()
