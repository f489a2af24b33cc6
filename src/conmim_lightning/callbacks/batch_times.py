"""When each batch of a run was waited for and when it was done."""

import time
from typing import Any

import torch
from lightning import Callback, LightningModule, Trainer


class BatchTimes(Callback):
    """Notes, for groups of batches, how long they took and how much of it was waiting for data; for benchmarks.

    Args:
        warmup: batches not counted.
        group: batches of each group; a GPU is waited for at its end only.

    Attributes:
        seconds: of each whole group.
        waits: seconds of each group before the data module had its batches.
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
        """Loading has ended when the data module says."""
        self._wait += max(0.0, trainer.datamodule.loaded_at - self._ended)  # type: ignore[attr-defined]

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """A group ends with the device's work."""
        self._done += 1
        counted = self._done - self.warmup
        if counted >= 0 and counted % self.group == 0:
            if trainer.strategy.root_device.type == "cuda":
                torch.cuda.synchronize()
            now = time.perf_counter()
            if counted:
                self.seconds.append(now - self._started)
                self.waits.append(self._wait)
            self._started, self._wait = now, 0.0
        self._ended = time.perf_counter()
