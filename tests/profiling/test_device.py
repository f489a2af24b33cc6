from pathlib import Path

import pytest
import torch

from conmim_lightning.profiling import device
from conmim_lightning.profiling.device import matmul_rate, memory_limit, peak_bytes, reset_peak, training_device


@pytest.fixture
def groups(tmp_path, monkeypatch):
    """Control groups of a job in a container: name, limit and use of each."""
    read = Path.read_text

    def read_text(path, *args):
        return "0::/job/step\n" if str(path) == "/proc/self/cgroup" else read(path, *args)

    monkeypatch.setattr(Path, "read_text", read_text)

    def write(name, limit, anon):
        (tmp_path / name).mkdir(parents=True, exist_ok=True)
        (tmp_path / name / "memory.max").write_text(f"{limit}\n")
        (tmp_path / name / "memory.stat").write_text(f"anon {anon}\nfile 999\n")

    return write


def test_control_groups_limit_memory(groups, tmp_path):
    groups("job", 1000, 300)
    groups("job/step", "max", 100)
    assert device._cgroup_limits(tmp_path) == [700]
    groups("job/step", 500, 600)
    assert sorted(device._cgroup_limits(tmp_path)) == [0, 700]


def test_the_limit_is_the_smallest(monkeypatch):
    free = memory_limit(torch.device("cpu"))
    assert free > 2**20
    monkeypatch.setattr(device, "_cgroup_limits", lambda root: [2**20])
    assert memory_limit(torch.device("cpu")) == 2**20 * 9 // 10
    assert memory_limit(torch.device("cpu"), 2) == 2**31


def test_an_unavailable_device_is_an_error(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert training_device("auto").type == training_device("cpu").type == "cpu"
    with pytest.raises(ValueError, match="'gpu', but torch finds no GPU"):
        training_device("gpu")
    with pytest.raises(ValueError, match="'tpu' cannot be timed"):
        training_device("tpu")


CPU = torch.device("cpu")


def test_the_peak_of_memory_is_measured():
    before = reset_peak(CPU)
    filled = torch.ones(2**26)  # 256 MiB
    assert peak_bytes(CPU) - before > 2**27
    del filled


def test_matmul_rate():
    assert matmul_rate(CPU, torch.float32, size=128, rounds=1) > 1e6
