"""Processes of a run: each shares the folder and the overrides of the process that launched it."""

import json
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager

from hydra.core.hydra_config import HydraConfig

_RANK_VARIABLES = ("LOCAL_RANK", "NODE_RANK", "WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT")
_RUN_DIR, _OVERRIDES = "CONMIM_RUN_DIR", "CONMIM_OVERRIDES"


@contextmanager
def own_job() -> Iterator[None]:
    """Pass folder and overrides to launched processes by the environment, which is restored at the end."""
    before = {name: os.environ.get(name) for name in (*_RANK_VARIABLES, _RUN_DIR, _OVERRIDES)}
    if "LOCAL_RANK" not in os.environ:
        os.environ[_RUN_DIR] = HydraConfig.get().runtime.output_dir
        os.environ[_OVERRIDES] = json.dumps(list(HydraConfig.get().overrides.task))
    try:
        yield
    finally:
        for name, value in before.items():
            os.environ.pop(name, None)
            if value is not None:
                os.environ[name] = value


def as_launched_rank() -> None:
    """In a process that another rank launched, replace a sweep on the command line by that rank's job."""
    if "LOCAL_RANK" in os.environ and _OVERRIDES in os.environ:
        options = [word for word in sys.argv[1:] if word.startswith(("--", "hydra.")) or "=" not in word]
        options = [word for word in options if word not in ("-m", "--multirun") and not word.startswith("~")]
        sys.argv[1:] = [*json.loads(os.environ[_OVERRIDES]), *options]
