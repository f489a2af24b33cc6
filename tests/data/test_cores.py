import os

from conmim_lightning.data.cores import loader_processes


def test_loader_processes(monkeypatch):
    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: set(range(40)), raising=False)
    assert loader_processes(None) == 16
    assert loader_processes(0) == 0
    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: {1}, raising=False)
    assert loader_processes(None) == 1
