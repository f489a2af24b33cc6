import os
import resource
import signal
import tempfile
from contextlib import contextmanager

import pytest
import torch

from conmim_lightning.callbacks.checkpoint_io import AtomicCheckpointIO

CONTENT = {"state": torch.arange(250_000, dtype=torch.float32)}  # 1 MB


@contextmanager
def largest_file(size: int):
    """A quota: a longer write ends with EFBIG."""
    before, handler = resource.getrlimit(resource.RLIMIT_FSIZE), signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
        signal.signal(signal.SIGXFSZ, handler)


def test_a_checkpoint_is_read_back(tmp_path):
    AtomicCheckpointIO().save_checkpoint(CONTENT, tmp_path / "new" / "a.ckpt")
    assert os.listdir(tmp_path / "new") == ["a.ckpt"]
    assert torch.equal(torch.load(tmp_path / "new" / "a.ckpt", weights_only=True)["state"], CONTENT["state"])


@pytest.mark.parametrize("size", [1_000, 500_000, 1_000_500])
def test_a_quota_leaves_the_earlier_checkpoint(tmp_path, size):
    path, io = tmp_path / "a.ckpt", AtomicCheckpointIO()
    io.save_checkpoint({"state": 1}, path)
    with largest_file(size), pytest.raises(OSError, match=r"File too large: '.*a\.ckpt'"):
        io.save_checkpoint(CONTENT, path)
    assert torch.load(path, weights_only=True) == {"state": 1}
    assert os.listdir(tmp_path) == ["a.ckpt"]


def test_continue_warns_and_remembers(tmp_path):
    io = AtomicCheckpointIO("continue")
    with largest_file(1_000), pytest.warns(UserWarning, match=r"a\.ckpt' could not be written: File too large"):
        io.save_checkpoint(CONTENT, tmp_path / "a.ckpt")
    assert io.failed
    assert not os.listdir(tmp_path)
    io.save_checkpoint(CONTENT, tmp_path / "a.ckpt")
    assert not io.failed


def test_errors_that_are_not_of_the_disk_are_raised(tmp_path):
    with pytest.raises(Exception, match="pickle"):
        AtomicCheckpointIO("continue").save_checkpoint({"state": lambda: 0}, tmp_path / "a.ckpt")
    assert not os.listdir(tmp_path)


def test_an_unknown_action():
    with pytest.raises(ValueError, match="'stop' or 'continue', got 'ignore'"):
        AtomicCheckpointIO("ignore")


def test_the_folder_for_temporary_files_is_not_used(tmp_path, monkeypatch):
    """It may be full, or on another file system, from which Lightning copies."""
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "absent"))
    AtomicCheckpointIO().save_checkpoint(CONTENT, tmp_path / "a.ckpt")
    assert os.listdir(tmp_path) == ["a.ckpt"]
