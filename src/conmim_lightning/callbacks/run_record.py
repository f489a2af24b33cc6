"""Configuration, command line, versions and commit of a run, stored in its folder and its checkpoints."""

from pathlib import Path
from typing import Any

import yaml
from lightning import Callback, LightningModule, Trainer
from lightning.pytorch.utilities import rank_zero_only

from conmim_lightning.files import write_text


class RunRecord(Callback):
    """Store the record as ``run.yaml`` and under "run" in every checkpoint.

    Args:
        record: record made of dictionaries, lists, strings and numbers.
        dirpath: folder of the run.
        logged: what loggers store of the record; null for all.
    """

    def __init__(self, record: dict[str, Any], dirpath: str, logged: dict[str, Any] | None = None) -> None:
        self.record = record
        self.logged = record if logged is None else logged
        self.dirpath = Path(dirpath)

    @rank_zero_only
    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Write the file and pass the configuration to the loggers."""
        write_text(self.dirpath / "run.yaml", yaml.safe_dump(self.record, sort_keys=False))
        for logger in trainer.loggers:
            logger.log_hyperparams(self.logged)

    def on_save_checkpoint(self, trainer: Trainer, pl_module: LightningModule, checkpoint: dict[str, Any]) -> None:
        """Add the record to the checkpoint."""
        checkpoint["run"] = self.record
