import signal

import pytest
from lightning import Trainer
from pretraining import make_task

from conmim_lightning.callbacks.checkpoint import RunCheckpoint


@pytest.mark.parametrize("devices", [1, 2])
def test_no_device_asks_the_others_before_each_batch(devices, monkeypatch, tmp_path):
    """Lightning's way to ask ends in ``item()``, for which a GPU must be waited for; ours asks after each sixteenth."""
    trainer = Trainer(accelerator="cpu", logger=False, enable_checkpointing=False, default_root_dir=tmp_path)
    monkeypatch.setattr(Trainer, "world_size", devices)
    loop, handler = trainer.fit_loop.epoch_loop, signal.getsignal(signal.SIGTERM)
    asks = loop._broadcast_sigterm_tensor
    checkpoint = RunCheckpoint(dirpath=tmp_path)
    checkpoint.on_train_start(trainer, make_task())
    assert (loop._broadcast_sigterm_tensor == asks) == (devices == 1)
    assert devices == 1 or loop._broadcast_sigterm_tensor() is None
    checkpoint.teardown(trainer, make_task(), "fit")
    assert loop._broadcast_sigterm_tensor == asks
    assert signal.getsignal(signal.SIGTERM) == handler
