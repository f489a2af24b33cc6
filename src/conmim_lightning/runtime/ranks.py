"""Ranks of this process, as its launcher set them in the environment: torchrun, SLURM, Lightning or a user."""

import os

from conmim_lightning.slurm import num_tasks


def global_rank() -> int:
    """Return the rank that the launcher of this process gave it, 0 for the first process; read from the environment."""
    if "RANK" in os.environ:  # torchrun
        return int(os.environ["RANK"])
    if num_tasks() > 1:
        return int(os.environ["SLURM_PROCID"])
    return int(os.environ.get("NODE_RANK", 0)) or int(os.environ.get("LOCAL_RANK", 0))  # 0 only for the first


def local_rank() -> int:
    """Return the number of this process on its node; read from the environment."""
    return int(os.environ.get("LOCAL_RANK", os.environ.get("SLURM_LOCALID", 0) if num_tasks() > 1 else 0))
