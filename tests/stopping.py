"""Runs that stop after a given batch."""

import signal

import lightning
import pytest
from lightning import Callback

from conmim_lightning.train import run


class StopOnly(Callback):
    """Request a stop after a batch."""

    def __init__(self, batches: int, by: signal.Signals | None = None) -> None:
        self.batches, self.by = batches, by

    def on_train_batch_end(self, trainer, pl_module, outputs, batch, batch_idx):
        if trainer.fit_loop.epoch_loop.total_batch_idx + 1 == self.batches:
            if self.by is None:
                trainer.should_stop = True
            else:
                signal.raise_signal(self.by)


def run_with(cfg, monkeypatch: pytest.MonkeyPatch, callback: Callback):
    original = lightning.Trainer.__init__

    def with_callback(self, *args, callbacks=(), **kwargs):
        original(self, *args, callbacks=[callback, *callbacks], **kwargs)

    with monkeypatch.context() as patch:
        patch.setattr(lightning.Trainer, "__init__", with_callback)
        return run(cfg)
