"""Keeps what is needed to look at a loss or gradient that is not finite."""

from pathlib import Path
from typing import Any

import torch
from lightning import Callback, LightningModule, Trainer
from lightning.pytorch.utilities import rank_zero_warn

from conmim_lightning.batches import PretrainViews
from conmim_lightning.optim.non_finite import NonFiniteError


class Divergence(Callback):
    """Writes the last batch, the weights before the bad step and the message when a run stops for ``NonFiniteError``.

    Args:
        dirpath: folder for ``diverged_step<s>_rank<r>.pt``, a dictionary with "message", "batch" (``PretrainViews`` as
            a dictionary) and "model" (state of the task).
    """

    def __init__(self, dirpath: str) -> None:
        self.dirpath = Path(dirpath)
        self._batch: PretrainViews | None = None

    def on_train_batch_start(self, trainer: Trainer, pl_module: LightningModule, batch: Any, batch_idx: int) -> None:
        """Remember the batch."""
        self._batch = batch

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Forget the batch."""
        self._batch = None

    def on_exception(self, trainer: Trainer, pl_module: LightningModule, exception: BaseException) -> None:
        """Write the diagnosis file."""
        if not isinstance(exception, NonFiniteError):
            return
        path = self.dirpath / f"diverged_step{trainer.global_step}_rank{trainer.global_rank}.pt"
        path.parent.mkdir(parents=True, exist_ok=True)
        batch = self._batch._asdict() if self._batch is not None else {}
        torch.save({"message": str(exception), "batch": batch, "model": pl_module.state_dict()}, path)
        rank_zero_warn(f"wrote the batch and the weights before the bad step to {path}")
