"""List of the images that cannot be read."""

import os
from pathlib import Path
from typing import Any

from lightning import Callback, LightningModule, Trainer
from lightning.pytorch.utilities import rank_zero_info

from conmim_lightning.batches import LEFT_OUT
from conmim_lightning.callbacks.gather import gather_objects
from conmim_lightning.files import naming


class TooManyBrokenError(ValueError):
    """The fraction of broken images exceeds the allowed maximum."""


class BrokenImages(Callback):
    """Count and list each broken image that was replaced, once per image.

    Args:
        path: tab-separated file to write, one image per line: name, reason; ``data.exclude`` accepts it. One file per
            device; from the second device on, the rank precedes the suffix. Without broken images, no file is written.
        max_fraction: largest allowed fraction of broken images, in [0, 1]; the run stops above it.

    Raises:
        ValueError: max_fraction is out of its range.
    """

    def __init__(self, path: str, max_fraction: float = 0.01) -> None:
        if not 0 <= max_fraction <= 1:
            raise ValueError(f"max_fraction of broken images must lie in [0, 1], got {max_fraction}")
        self.path = Path(path)
        self.max_fraction = max_fraction
        self.broken: set[str] = set()

    def on_train_batch_start(self, trainer: Trainer, pl_module: LightningModule, batch: Any, batch_idx: int) -> None:
        """List the images that were replaced since the last batch."""
        lines = trainer.datamodule.pop_broken()  # type: ignore[attr-defined]
        if new := [line for line in lines if _name(line) not in self.broken]:
            self._append(trainer, self.path, new)
            self.broken |= {_name(line) for line in new if not line.partition("\t")[2].startswith(LEFT_OUT)}
            self._stop_if_too_many(trainer)

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Share the list with the other devices, which may meet the same images in the next epoch."""
        if trainer.world_size > 1:
            self.broken = set(gather_objects(trainer, sorted(self.broken)))
            self._stop_if_too_many(trainer)

    def on_test_batch_end(
        self,
        trainer: Trainer,
        pl_module: LightningModule,
        outputs: Any,
        batch: Any,
        batch_idx: int,
        dataloader_idx: int = 0,
    ) -> None:
        """List broken test images, in a separate file."""
        if lines := [line for line in batch.broken if line]:
            self._append(trainer, self.path.with_name(f"test_{self.path.name}"), lines)

    def on_fit_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Print the number of broken images."""
        if self.broken:
            rank_zero_info(f"{len(self.broken)} broken images were replaced; they are listed in {self.path}")

    def state_dict(self) -> dict[str, Any]:
        """Return the names of all broken images so far."""
        return {"broken": sorted(self.broken)}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Restore the names of the resumed run."""
        self.broken = set(state_dict["broken"])

    @staticmethod
    def _append(trainer: Trainer, path: Path, lines: list[str]) -> None:
        rank = trainer.global_rank
        target = path if rank == 0 else path.with_suffix(f".{rank}{path.suffix}")
        with naming(target):
            target.parent.mkdir(parents=True, exist_ok=True)
            listed = _listed(target)
            with target.open("a", encoding="utf-8", errors="surrogateescape") as file:
                file.writelines(f"{line}\n" for line in lines if _name(line) not in listed)

    def _stop_if_too_many(self, trainer: Trainer) -> None:
        total = len(trainer.datamodule.source)  # type: ignore[attr-defined]
        if len(self.broken) > self.max_fraction * total:
            raise TooManyBrokenError(
                f"{len(self.broken)} of {total} images cannot be read, more than the allowed fraction of "
                f"{self.max_fraction:.2%} (callbacks.broken_images.max_fraction); they are listed in {self.path}"
            )


def _listed(path: Path) -> set[str]:
    """Return the names in a list, which a resumed run continues; a killed process may leave an incomplete line."""
    if not path.exists():
        return set()
    content = path.read_bytes()
    complete = content[: content.rfind(b"\n") + 1]
    if complete != content:
        os.truncate(path, len(complete))
    return {_name(line) for line in complete.decode("utf-8", "surrogateescape").split("\n") if line}


def _name(line: str) -> str:
    return line.split("\t", 1)[0]
