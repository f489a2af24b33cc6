"""An account of the images that could not be read."""

from pathlib import Path
from typing import Any, cast

import torch
from lightning import Callback, LightningModule, Trainer
from lightning.pytorch.utilities import rank_zero_info


class TooManyBrokenError(ValueError):
    """More images are broken than the run allows."""


class BrokenImages(Callback):
    """Counts and lists the images that were replaced because they could not be read.

    Args:
        path: tab-separated list to write, a line an image: path, reason. One file a device; from the second device on
            the rank is appended to the name. Only written if there is something to list.
        max_share: of the images that fall to a device in an epoch; above it the run stops. In [0, 1].

    Raises:
        ValueError: max_share is out of its range.
    """

    def __init__(self, path: str, max_share: float = 0.01) -> None:
        if not 0 <= max_share <= 1:
            raise ValueError(f"max_share of broken images must lie in [0, 1], got {max_share}")
        self.path = Path(path)
        self.max_share = max_share
        self.broken: set[int] = set()

    def on_train_batch_start(self, trainer: Trainer, pl_module: LightningModule, batch: Any, batch_idx: int) -> None:
        """Account for the images that the data module has met since the last batch."""
        for number in trainer.datamodule.take_replaced():  # type: ignore[attr-defined]
            if number not in self.broken:
                self._add(trainer, number)

    def _add(self, trainer: Trainer, number: int) -> None:
        self.broken.add(number)
        path, reason = trainer.datamodule.explain(number)  # type: ignore[attr-defined]
        rank = trainer.global_rank
        target = self.path if rank == 0 else self.path.with_suffix(f".{rank}{self.path.suffix}")
        target.parent.mkdir(parents=True, exist_ok=True)
        with target.open("a") as file:
            file.write(f"{path}\t{reason}\n")
        total = len(trainer.datamodule.source) / trainer.world_size  # type: ignore[attr-defined]
        if len(self.broken) > self.max_share * total:
            raise TooManyBrokenError(
                f"{len(self.broken)} of {total:.0f} images cannot be read, more than the allowed share of "
                f"{self.max_share:.2%} (callbacks.broken_images.max_share); they are listed in {target}"
            )

    def on_fit_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Say how many there were, over all devices."""
        count = torch.tensor(len(self.broken), device=pl_module.device)
        total = int(cast(torch.Tensor, trainer.strategy.reduce(count, reduce_op="sum")))
        if total:
            rank_zero_info(f"{total} broken images were replaced; they are listed in {self.path}")

    def state_dict(self) -> dict[str, Any]:
        """The numbers of the broken images found so far."""
        return {"broken": sorted(self.broken)}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Go on counting."""
        self.broken = set(state_dict["broken"])
