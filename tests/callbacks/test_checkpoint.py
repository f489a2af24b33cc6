import signal
from pathlib import Path
from types import MethodType

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


def save_steps(folder, steps, **changes):
    """Files after checkpoints at some steps, and the callback."""
    trainer = Trainer(accelerator="cpu", logger=False, enable_checkpointing=False, default_root_dir=folder)
    folder.mkdir(exist_ok=True)
    callback = RunCheckpoint(folder, filename="{step}", **changes)
    for step in steps:
        callback._save_checkpoint = MethodType(write_and_note(callback), callback)
        trainer.fit_loop.epoch_loop.automatic_optimization.optim_progress.optimizer.step.total.completed = step
        candidates = callback._monitor_candidates(trainer)
        callback._save_topk_checkpoint(trainer, candidates)
        callback._save_last_checkpoint(trainer, candidates)
    return sorted(path.name for path in folder.iterdir()), callback


def write_and_note(callback):
    original = RunCheckpoint._save_checkpoint

    def write(self, trainer, filepath):
        trainer.save_checkpoint = lambda path, weights_only=False: Path(path).write_text("x")
        original(self, trainer, filepath)

    return write


@pytest.mark.parametrize("save_last", ["link", True])
def test_the_newest_checkpoints_stay_and_last_always(tmp_path, save_last):
    names, _ = save_steps(tmp_path, [1, 2, 3, 4], save_top_k=2, save_last=save_last)
    assert names == ["last.ckpt", "step=3.ckpt", "step=4.ckpt"]


def test_one_checkpoint_or_all(tmp_path):
    assert save_steps(tmp_path / "one", [1, 2, 3], save_top_k=1)[0] == ["step=3.ckpt"]
    assert len(save_steps(tmp_path / "all", [1, 2, 3], save_top_k=-1)[0]) == 3


def test_a_resumed_run_removes_what_its_checkpoint_lists(tmp_path):
    _, first = save_steps(tmp_path, [1, 2], save_top_k=2)
    second = RunCheckpoint(tmp_path, save_top_k=2)
    second.load_state_dict(first.state_dict())
    assert [Path(path).name for path in second._saved] == ["step=1.ckpt", "step=2.ckpt"]
    (tmp_path / "step=1.ckpt").unlink()
    second.load_state_dict(first.state_dict())
    assert [Path(path).name for path in second._saved] == ["step=2.ckpt"]
