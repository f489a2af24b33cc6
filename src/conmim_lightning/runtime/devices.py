"""Settings of a Trainer that must be checked or changed before a run."""

import re
from typing import Any

from conmim_lightning.config.check import Config
from conmim_lightning.cores import available_cores

_DEVICES = re.compile(r"auto|-1|\d+(,\d+)*,?")
_ALWAYS = 2  # processes that any machine may run, to try a distributed run


def check_devices(trainer: Config) -> None:
    """Check the number of devices.

    Raises:
        ValueError: it is a text of another form, or more processes on the CPU than it has cores, which would wait for
            each other for ever.
    """
    devices = trainer.get("devices")
    if isinstance(devices, str) and not _DEVICES.fullmatch(devices):
        raise ValueError(f"trainer.devices must be auto, a number, or numbers such as [0,1], got {devices!r}")
    if not isinstance(devices, int) or not _is_cpu(trainer):
        return
    cores = available_cores()
    if devices > max(_ALWAYS, cores):
        raise ValueError(f"trainer.devices is {devices}, but this machine has {cores} CPU cores and no GPU is used")


def use_own_signals(trainer: Any) -> None:
    """Leave the signals to ``signals.stop_signals``: Lightning's handlers wait for other ranks, or end in silence."""
    trainer._signal_connector.register_signal_handlers = lambda: None


def _is_cpu(trainer: Config) -> bool:
    accelerator = trainer.get("accelerator", "auto")
    if accelerator != "auto":
        return accelerator == "cpu"
    import torch

    return not torch.cuda.is_available() and not torch.backends.mps.is_available()
