from pathlib import Path

import pytest
import torch

from conmim_lightning.speed import device
from conmim_lightning.speed.device import memory_limit, training_device


@pytest.fixture
def groups(tmp_path, monkeypatch):
    """Control groups of a job in a container: name of each and what it says."""
    read = Path.read_text

    def read_text(path, *args):
        return "0::/job/step\n" if str(path) == "/proc/self/cgroup" else read(path, *args)

    monkeypatch.setattr(Path, "read_text", read_text)

    def write(name, most, anon):
        (tmp_path / name).mkdir(parents=True, exist_ok=True)
        (tmp_path / name / "memory.max").write_text(f"{most}\n")
        (tmp_path / name / "memory.stat").write_text(f"anon {anon}\nfile 999\n")

    return write


def test_what_a_job_is_allowed_limits_memory(groups, tmp_path):
    groups("job", 1000, 300)
    groups("job/step", "max", 100)
    assert device._left_to_groups(tmp_path) == [700]
    groups("job/step", 500, 600)
    assert sorted(device._left_to_groups(tmp_path)) == [0, 700]


def test_the_limit_is_the_smallest(monkeypatch):
    free = memory_limit(torch.device("cpu"))
    assert free > 2**20
    monkeypatch.setattr(device, "_left_to_groups", lambda root: [2**20])
    assert memory_limit(torch.device("cpu")) == 2**20 * 9 // 10
    assert memory_limit(torch.device("cpu"), 2) == 2**31


def test_a_device_that_is_not_there_is_refused(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert training_device("auto").type == training_device("cpu").type == "cpu"
    with pytest.raises(ValueError, match="'gpu', but torch finds no GPU"):
        training_device("gpu")
    with pytest.raises(ValueError, match="'tpu' cannot be timed"):
        training_device("tpu")
