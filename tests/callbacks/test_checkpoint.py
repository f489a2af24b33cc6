import signal

import pytest
from lightning import Trainer
from pretraining import make_task

from conmim_lightning.callbacks.checkpoint import RunCheckpoint


@pytest.mark.parametrize("devices", [1, 2])
def test_devices_do_not_synchronise_before_each_batch(devices, monkeypatch, tmp_path):
    """Lightning's check calls ``item()``, which waits for a GPU; ours checks after every sixteenth batch."""
    trainer = Trainer(accelerator="cpu", logger=False, enable_checkpointing=False, default_root_dir=tmp_path)
    monkeypatch.setattr(Trainer, "world_size", devices)
    loop, handler = trainer.fit_loop.epoch_loop, signal.getsignal(signal.SIGTERM)
    check = loop._broadcast_sigterm_tensor
    checkpoint = RunCheckpoint(dirpath=tmp_path)
    checkpoint.on_train_start(trainer, make_task())
    assert (loop._broadcast_sigterm_tensor == check) == (devices == 1)
    assert devices == 1 or loop._broadcast_sigterm_tensor() is None
    checkpoint.teardown(trainer, make_task(), "fit")
    assert loop._broadcast_sigterm_tensor == check
    assert signal.getsignal(signal.SIGTERM) == handler
