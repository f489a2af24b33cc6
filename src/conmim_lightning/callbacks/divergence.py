"""Keeps what is needed to look at a loss or gradient that is not finite."""

from pathlib import Path
from typing import Any

import torch
from lightning import Callback, LightningModule, Trainer
from lightning.pytorch.utilities import rank_zero_warn

from conmim_lightning.batches import PretrainViews
from conmim_lightning.optim.non_finite import NonFiniteError


class Divergence(Callback):
    """Writes the batches, the weights before the bad step and the message when a run stops for ``NonFiniteError``.

    Args:
        dirpath: folder for ``diverged_step<s>_rank<r>.pt``, a dictionary with "message", "batches" (those since the
            last optimizer step, ``PretrainViews`` as dictionaries; their "broken" tells which samples stand in for
            broken images), "names" (where each sample lies, by number) and "model" (state of the task).
    """

    def __init__(self, dirpath: str) -> None:
        self.dirpath = Path(dirpath)
        self._batches: list[tuple[int, PretrainViews]] = []  # with the optimizer steps that they are of

    def on_train_batch_start(self, trainer: Trainer, pl_module: LightningModule, batch: Any, batch_idx: int) -> None:
        """Remember the batch, and forget those of steps that went well; a GPU tells of the last a step later."""
        late = 1 if trainer.strategy.root_device.type == "cuda" else 0
        self._batches = [kept for kept in self._batches if kept[0] >= trainer.global_step - late]
        self._batches.append((trainer.global_step, batch))

    def on_exception(self, trainer: Trainer, pl_module: LightningModule, exception: BaseException) -> None:
        """Write the diagnosis file."""
        if not isinstance(exception, NonFiniteError):
            return
        step = trainer.global_step if exception.step is None else exception.step
        path = self.dirpath / f"diverged_step{step}_rank{trainer.global_rank}.pt"
        path.parent.mkdir(parents=True, exist_ok=True)
        batches = [batch._asdict() for number, batch in self._batches if number == step]
        source = getattr(trainer.datamodule, "source", None)  # type: ignore[attr-defined]
        numbers = [number for batch in batches for number in batch["index"].tolist()]
        names = {number: source.name(number) for number in numbers} if source is not None else {}
        content = {"message": str(exception), "batches": batches, "names": names, "model": pl_module.state_dict()}
        torch.save(content, path)
        rank_zero_warn(f"wrote the batches and the weights before the bad step to {path}")
