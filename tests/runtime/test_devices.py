import os

import pytest
from lightning import Trainer

from conmim_lightning.runtime.devices import check_devices, use_own_signals


def test_more_processes_than_cores_are_rejected(monkeypatch):
    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: set(range(4)))
    check_devices({"accelerator": "cpu", "devices": 4})
    with pytest.raises(ValueError, match=r"trainer.devices is 99, but this machine has 4 CPU cores"):
        check_devices({"accelerator": "cpu", "devices": 99})
    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: {0})
    check_devices({"accelerator": "cpu", "devices": 2})


@pytest.mark.parametrize("trainer", [{"accelerator": "gpu", "devices": 99}, {"devices": "auto"}, {"devices": [0, 1]}])
def test_lightning_checks_other_devices(trainer):
    check_devices(trainer)


def test_lightning_leaves_the_signals_alone(tmp_path):
    import signal

    trainer = Trainer(accelerator="cpu", logger=False, default_root_dir=tmp_path, enable_checkpointing=False)
    before = signal.getsignal(signal.SIGTERM)
    use_own_signals(trainer)
    trainer._signal_connector.register_signal_handlers()
    assert signal.getsignal(signal.SIGTERM) is before
