"""An account of the images that could not be read."""

from pathlib import Path
from typing import Any

import torch
from lightning import Callback, LightningModule, Trainer
from lightning.pytorch.utilities import rank_zero_info


class TooManyBrokenError(ValueError):
    """More images are broken than the run allows."""


class BrokenImages(Callback):
    """Counts and lists the images that were replaced because they could not be read, each once.

    Args:
        path: tab-separated list to write, a line an image: name, reason; ``data.exclude`` takes it. One file a device;
            from the second device on the rank is put before the suffix. Only written if there is something to list.
        max_share: of the collection; above it the run stops. In [0, 1].

    Raises:
        ValueError: max_share is out of its range.
    """

    def __init__(self, path: str, max_share: float = 0.01) -> None:
        if not 0 <= max_share <= 1:
            raise ValueError(f"max_share of broken images must lie in [0, 1], got {max_share}")
        self.path = Path(path)
        self.max_share = max_share
        self.broken: set[str] = set()

    def on_train_batch_start(self, trainer: Trainer, pl_module: LightningModule, batch: Any, batch_idx: int) -> None:
        """Account for what the data module has met since the last batch."""
        if new := [line for line in trainer.datamodule.take_broken() if _name(line) not in self.broken]:  # type: ignore[attr-defined]
            self._add(trainer, new)
            self._stop_if_too_many(trainer)

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Tell the other devices, for which the order of the next epoch may hold the same images."""
        if trainer.world_size > 1:
            everyones: list[Any] = [None] * trainer.world_size
            torch.distributed.all_gather_object(everyones, self.broken)
            self.broken = set().union(*everyones)
            self._stop_if_too_many(trainer)

    def on_test_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int, *_: Any
    ) -> None:
        """List what cannot be tested, in a file of its own."""
        if lines := [line for line in batch.broken if line]:
            self._append(trainer, self.path.with_name(f"test_{self.path.name}"), lines)

    def on_fit_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Say how many there were."""
        if self.broken:
            rank_zero_info(f"{len(self.broken)} broken images were replaced; they are listed in {self.path}")

    def state_dict(self) -> dict[str, Any]:
        """The names of the broken images found so far."""
        return {"broken": sorted(self.broken)}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Go on counting."""
        self.broken = set(state_dict["broken"])

    def _add(self, trainer: Trainer, lines: list[str]) -> None:
        self._append(trainer, self.path, lines)
        self.broken |= {_name(line) for line in lines}

    @staticmethod
    def _append(trainer: Trainer, path: Path, lines: list[str]) -> None:
        rank = trainer.global_rank
        target = path if rank == 0 else path.with_suffix(f".{rank}{path.suffix}")
        target.parent.mkdir(parents=True, exist_ok=True)
        with target.open("a", encoding="utf-8", errors="surrogateescape") as file:
            file.writelines(f"{line}\n" for line in lines)

    def _stop_if_too_many(self, trainer: Trainer) -> None:
        total = len(trainer.datamodule.source)  # type: ignore[attr-defined]
        if len(self.broken) > self.max_share * total:
            raise TooManyBrokenError(
                f"{len(self.broken)} of {total} images cannot be read, more than the allowed share of "
                f"{self.max_share:.2%} (callbacks.broken_images.max_share); they are listed in {self.path}"
            )


def _name(line: str) -> str:
    return line.split("\t", 1)[0]
