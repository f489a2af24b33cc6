"""The commands as users run them, in this process: a second import of torch would take most of a test's time."""

import logging
import os
import runpy
import sys
import warnings
from typing import NamedTuple
from unittest.mock import patch

import pytest


class Done(NamedTuple):
    """What a command left behind."""

    status: int
    stdout: str
    stderr: str


@pytest.fixture
def run_command(tmp_path, monkeypatch, capsys):
    """Run ``python -m conmim_lightning.<name> <overrides>`` in ``tmp_path``."""
    monkeypatch.chdir(tmp_path)
    root = logging.getLogger()
    handlers, level = list(root.handlers), root.level
    loggers = {name: value for name, value in root.manager.loggerDict.items() if isinstance(value, logging.Logger)}
    states = {name: (value.level, value.propagate, value.disabled) for name, value in loggers.items()}

    def run(name: str, *overrides: str) -> Done:
        capsys.readouterr()
        status = 0
        with patch.dict(os.environ), patch.object(sys, "argv", [name, *overrides]), warnings.catch_warnings():
            warnings.filterwarnings("ignore", message=r".*found in sys.modules after import of package.*")
            try:
                runpy.run_module(f"conmim_lightning.{name}", run_name="__main__", alter_sys=True)
            except SystemExit as end:
                status = int(end.code or 0)
            finally:
                for handler in set(root.handlers) - set(handlers):  # Hydra's
                    handler.close()
                root.handlers[:], root.level = handlers, level
                for name, state in states.items():
                    loggers[name].level, loggers[name].propagate, loggers[name].disabled = state
        return Done(status, *capsys.readouterr())

    return run
