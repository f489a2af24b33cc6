"""Building of the loggers, which continue the records of a resumed run."""

import uuid
from typing import Any

from hydra.utils import instantiate

from conmim_lightning.config.check import Config
from conmim_lightning.runtime.labels import RunLabels
from conmim_lightning.weights.checkpoint import Checkpoint


def run_id(checkpoint: Checkpoint | None, nodes: dict[str, Config] | None = None) -> str:
    """Return the identifier of a run, which its resumed runs keep.

    Args:
        checkpoint: checkpoint with which the run continues.
        nodes: configurations of the loggers; an identifier that one of them gives is taken.
    """
    for node in (nodes or {}).values():
        if isinstance(node.get("id"), str):
            return node["id"]
    record = (checkpoint or {}).get("run")
    known = record.get("id") if isinstance(record, dict) else None
    return known if isinstance(known, str) and known.isalnum() else uuid.uuid4().hex[:12]


def build_loggers(
    nodes: dict[str, Config], identifier: str, checkpoint: Checkpoint | None, labels: RunLabels | None = None
) -> list[Any]:
    """Build the loggers; those of CSV and TensorBoard drop the steps that are logged again.

    Args:
        nodes: configurations by name.
        identifier: identifier of the run; wandb continues the run of this identifier.
        checkpoint: checkpoint with which the run continues.
        labels: name, group, kind and tags for wandb, where the configuration gives none.
    """
    step = checkpoint["global_step"] if checkpoint else 0
    additions = {
        "CSVLogger": {"first_step": step},
        "TensorBoardLogger": {"purge_step": step} if checkpoint else {},
        "WandbLogger": {"id": identifier} | (labels._asdict() if labels else {}),
    }
    loggers = []
    for node in nodes.values():
        own = additions.get(node["_target_"].rpartition(".")[2].removeprefix("Run"), {})
        given = {key: value for key, value in node.items() if key not in own or value not in (None, [])}
        loggers.append(instantiate(own | given))
    return loggers
