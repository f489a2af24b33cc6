"""Processes of a run: all ranks on all nodes have one run folder and one set of overrides."""

import hashlib
import json
import os
import re
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path

from hydra.core.hydra_config import HydraConfig

from conmim_lightning.config.resolvers import RUN_NAME, register_resolvers
from conmim_lightning.runtime.arguments import expand_arguments
from conmim_lightning.runtime.errors import user_errors
from conmim_lightning.runtime.ranks import global_rank
from conmim_lightning.runtime.secrets import mask_text, masked_excepthook, masked_output
from conmim_lightning.signals import stop_signals
from conmim_lightning.slurm import job_id

_RANK_VARIABLES = ("LOCAL_RANK", "NODE_RANK", "WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT")
_RUN_DIR, _OVERRIDES = "CONMIM_RUN_DIR", "CONMIM_OVERRIDES"
_NUM_NODES = re.compile(r"\+{0,2}trainer\.num_nodes=(\d+)")
_PATIENCE = timedelta(minutes=5)


def run_command(main: Callable[[], object]) -> None:
    """Run a command: name its run, then call ``main``; errors and signals end it with one message."""
    register_resolvers()
    sys.excepthook = masked_excepthook
    with masked_output(), user_errors(), stop_signals() as handler:
        handler.advice = lambda: " before it was complete"
        sys.argv[1:] = expand_arguments(sys.argv[1:])
        as_launched_rank()
        name_run()
        main()


@contextmanager
def own_job() -> Iterator[None]:
    """Pass folder and overrides to launched processes by the environment, which is restored at the end."""
    before, words = {name: os.environ.get(name) for name in (*_RANK_VARIABLES, _RUN_DIR, _OVERRIDES)}, sys.argv[1:]
    if "LOCAL_RANK" not in os.environ:
        os.environ[_RUN_DIR] = HydraConfig.get().runtime.output_dir
        os.environ[_OVERRIDES] = json.dumps(list(HydraConfig.get().overrides.task))
        sys.argv[1:] = map(mask_text, words)  # which loggers record; launched processes take their overrides from above
    try:
        with masked_output():  # again: the workers of a sweep do not begin in ``run_command``
            yield
    finally:
        sys.argv[1:] = words
        for name, value in before.items():
            os.environ.pop(name, None)
            if value is not None:
                os.environ[name] = value


def check_objective(objective: str | None) -> None:
    """Raise ValueError if a sweeper optimises a metric, but none is named."""
    config = HydraConfig.get()
    is_multirun = config.mode is not None and config.mode.name == "MULTIRUN"
    if objective is None and is_multirun and "direction" in config.sweeper:  # as Optuna's
        raise ValueError("the sweeper optimises a metric; name it, such as objective=val/knn_top1")


def as_launched_rank() -> None:
    """In a process that another rank launched, replace a sweep on the command line by that rank's job.

    Ranks other than the first write no log and no record.
    """
    if "LOCAL_RANK" in os.environ and _OVERRIDES in os.environ:
        options = [word for word in sys.argv[1:] if word.startswith(("--", "hydra.")) or "=" not in word]
        options = [word for word in options if word not in ("-m", "--multirun") and not word.startswith("~")]
        sys.argv[1:] = [*json.loads(os.environ[_OVERRIDES]), *options]
    if global_rank() > 0:
        sys.argv[1:] = [word for word in sys.argv[1:] if not word.startswith("hydra.output_subdir=")]
        sys.argv += ["hydra.output_subdir=null", "hydra/job_logging=stdout"]


def name_run() -> None:
    """Set the name of this run in the environment, equal in all ranks and in the processes that a sweep starts.

    It is the date, the time and the process; in a SLURM job, the job and the command, so that a requeued job continues
    in its folder.
    """
    if RUN_NAME in os.environ:  # of a launched rank or a worker of a sweep
        return
    job = job_id()
    if job:
        command = hashlib.sha256("\0".join([Path(sys.argv[0]).name, *_own_arguments()]).encode()).hexdigest()[:6]
        os.environ[RUN_NAME] = f"slurm/{job}-{command}"
    else:
        os.environ[RUN_NAME] = _from_first_rank(f"{time.strftime('%Y-%m-%d/%H-%M-%S')}-{os.getpid()}")


def _own_arguments() -> list[str]:
    """Return the arguments that are equal in all ranks."""
    return sorted(word for word in sys.argv[1:] if not word.startswith(("hydra.output_subdir=", "hydra/job_logging=")))


def _from_first_rank(name: str) -> str:
    """Return the first rank's name in all ranks that torchrun or a user started; else the own name."""
    by_torchrun = "TORCHELASTIC_RUN_ID" in os.environ
    nodes = next((match[1] for word in sys.argv if (match := _NUM_NODES.fullmatch(word))), 1)
    processes = int(os.environ.get("WORLD_SIZE", 1) if "RANK" in os.environ else nodes)
    if processes == 1 or "MASTER_ADDR" not in os.environ or "MASTER_PORT" not in os.environ:
        return name
    from torch.distributed import TCPStore

    hosts = not by_torchrun and global_rank() == 0
    store = TCPStore(
        os.environ["MASTER_ADDR"],
        int(os.environ["MASTER_PORT"]),
        is_master=hosts,
        timeout=_PATIENCE,
        wait_for_workers=False,
    )
    key = f"conmim/run_name/{os.environ.get('TORCHELASTIC_RESTART_COUNT', 0)}"
    if global_rank() == 0:
        store.set(key, name)
    name = store.get(key).decode()
    if not by_torchrun:
        store.add(f"{key}/read", 1)
        while hosts and store.add(f"{key}/read", 0) < processes:  # the store ends with this process
            time.sleep(0.05)
    return name
