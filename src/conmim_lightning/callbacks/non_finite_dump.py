"""File for the diagnosis of a loss or gradient that is not finite."""

from pathlib import Path
from typing import Any

import torch
from lightning import Callback, LightningModule, Trainer
from lightning.pytorch.utilities import rank_zero_warn

from conmim_lightning.batches import PretrainViews
from conmim_lightning.files import replacing
from conmim_lightning.optim.non_finite import NonFiniteError


class NonFiniteDump(Callback):
    """Write batches, weights and message when a run stops with ``NonFiniteError``.

    Args:
        dirpath: folder for ``non_finite_step<s>_rank<r>.pt``, a dictionary with "message", "batches" (of the bad step:
            ``PretrainViews`` as dictionaries; their "broken" shows which samples replace broken images), "names"
            (image name by index) and "model" (the task's state before the step).
    """

    def __init__(self, dirpath: str) -> None:
        self.dirpath = Path(dirpath)
        self._batches: list[tuple[int, PretrainViews]] = []  # (optimizer step, batch)

    def on_train_batch_start(self, trainer: Trainer, pl_module: LightningModule, batch: Any, batch_idx: int) -> None:
        """Keep the batches of this step and, on a GPU, of the previous step, which is reported one step later."""
        delay = 1 if trainer.strategy.root_device.type == "cuda" else 0
        self._batches = [entry for entry in self._batches if entry[0] >= trainer.global_step - delay]
        self._batches.append((trainer.global_step, batch))

    def on_exception(self, trainer: Trainer, pl_module: LightningModule, exception: BaseException) -> None:
        """Write the file."""
        if not isinstance(exception, NonFiniteError):
            return
        step = trainer.global_step if exception.step is None else exception.step
        path = self.dirpath / f"non_finite_step{step}_rank{trainer.global_rank}.pt"
        batches = [batch._asdict() for batch_step, batch in self._batches if batch_step == step]
        source = getattr(trainer.datamodule, "source", None)  # type: ignore[attr-defined]
        indices = [index for batch in batches for index in batch["index"].tolist()]
        names = {index: source.name(index) for index in indices} if source is not None else {}
        content = {"message": str(exception), "batches": batches, "names": names, "model": pl_module.state_dict()}
        with replacing(path) as temporary:
            torch.save(content, temporary)
        rank_zero_warn(f"wrote the batches and the weights before the bad step to {path}")
