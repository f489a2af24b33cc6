"""Building of the loggers, which continue the records of a resumed run."""

import uuid
from typing import Any

from hydra.utils import instantiate

from conmim_lightning.config.check import Config
from conmim_lightning.weights.checkpoint import Checkpoint


def run_id(checkpoint: Checkpoint | None) -> str:
    """Return the identifier of a run, which its resumed runs keep."""
    record = (checkpoint or {}).get("run")
    known = record.get("id") if isinstance(record, dict) else None
    return known if isinstance(known, str) and known.isalnum() else uuid.uuid4().hex[:12]


def build_loggers(nodes: dict[str, Config], identifier: str, checkpoint: Checkpoint | None) -> list[Any]:
    """Build the loggers; those of CSV and TensorBoard drop the steps that are logged again.

    Args:
        nodes: configurations by name.
        identifier: identifier of the run; wandb continues the run of this identifier.
        checkpoint: checkpoint with which the run continues.
    """
    step = checkpoint["global_step"] if checkpoint else 0
    additions = {
        "RunCSVLogger": {"first_step": step},
        "TensorBoardLogger": {"purge_step": step} if checkpoint else {},
        "WandbLogger": {"id": identifier},
    }
    return [instantiate(additions.get(node["_target_"].rpartition(".")[2], {}) | node) for node in nodes.values()]
