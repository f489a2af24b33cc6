"""What every LightningDataModule has that trains: an order that a run goes on in, and an account of broken images."""

import time
from typing import Any, cast

from lightning import LightningDataModule
from lightning.pytorch.loops.progress import _ProcessedTracker as ProcessedTracker
from lightning.pytorch.utilities import rank_zero_warn
from torch.utils.data import DataLoader, Dataset, default_collate

from conmim_lightning.data.checks import at_least
from conmim_lightning.data.cores import available_cores
from conmim_lightning.data.loaders import train_loader
from conmim_lightning.data.position import Position
from conmim_lightning.data.sampler import Resumable
from conmim_lightning.data.sources import Source


class ResumableDataModule(LightningDataModule):
    """Training batches in an order that does not depend on the number of devices, resumed at the batch.

    A subclass finds ``source`` and makes ``train_set``, and sets ``collection`` to the source's fingerprint.

    Args:
        root: where the collection lies.
        batch_size: images a step and device.
        seed: of the order.
        num_workers: loader processes; null takes one for each usable core, at most 16.
    """

    source: Source
    train_set: Dataset[Any]
    collection: str

    def __init__(self, *, root: str, batch_size: int, seed: int, num_workers: int | None) -> None:
        super().__init__()
        at_least(0, num_workers=num_workers)
        self.root = root
        self.batch_size = batch_size
        self.seed = seed
        self.num_workers = min(available_cores(), 16) if num_workers is None else num_workers
        self._broken: list[str] = []
        self._resume_from = Position()
        self._resumed_collection: str | None = None
        self.loaded_at = 0.0

    def on_before_batch_transfer(self, batch: Any, dataloader_idx: int) -> Any:
        """Note the time, and what could not be read."""
        self.loaded_at = time.perf_counter()
        training = self.trainer is not None and self.trainer.training
        lists = getattr(batch, "broken", ()) if training else ()
        self._broken += [line for lines in lists if lines for line in lines.split("\n")]
        return batch

    def take_broken(self) -> list[str]:
        """What could not be read since the last call: name, tab, reason."""
        self._broken, taken = [], self._broken
        return taken

    def train_dataloader(self) -> DataLoader[Any]:
        """Batches, from where a resumed run stopped; ValueError if that is within a batch."""
        sampler = self._sampler()
        self._check_collection()
        sampler.resume(self._resume_from.epoch, self._resume_from.samples_a_device(self.batch_size, self._world_size()))
        return train_loader(
            self.train_set,
            sampler=sampler,
            batch_size=self.batch_size,
            num_workers=self.source.workers(self.num_workers),
            pin_memory=self.trainer is not None and self.trainer.strategy.root_device.type == "cuda",
            collate=getattr(self.train_set, "collate", default_collate),
        )

    def state_dict(self) -> dict[str, Any]:
        """The place that training has finished, whatever the workers have prepared, for any number of devices."""
        assert self.trainer
        if self.trainer.num_training_batches == float("inf"):  # nothing was trained
            return self._resume_from._asdict() | {"collection": self.collection}
        finished = cast(ProcessedTracker, self.trainer.fit_loop.epoch_loop.batch_progress.total).processed
        return self._resume_from.after(
            finished,
            batch_over_devices=self.batch_size * self._world_size(),
            batches_an_epoch=int(self.trainer.num_training_batches),
        )._asdict() | {"collection": self.collection}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Go on from a saved place."""
        self._resume_from = Position(*(state_dict[name] for name in Position._fields))
        self._resumed_collection = state_dict.get("collection")

    def _check_collection(self) -> None:
        """Every device must see the same images; and a resumed run those of before, or it is told."""
        mine = self.collection
        if self.trainer and self._world_size() > 1 and self.trainer.strategy.broadcast(mine) != mine:
            raise ValueError(
                f"rank {self._rank()} sees other images from {self.root!r} than the first: {len(self.source)}"
            )
        if self._resumed_collection not in (None, mine):
            rank_zero_warn(
                f"{self.root!r} holds other images than when the run was interrupted, or in another order: what is "
                f"left of epoch {self._resume_from.epoch} is not what would have come"
            )

    def _check_fills(self) -> None:
        """Raise ValueError unless there is a whole batch."""
        world = self._world_size()
        if len(self.source) < self.batch_size * world:
            raise ValueError(
                f"{len(self.source)} images from {self.root!r} do not fill one batch of {self.batch_size} x "
                f"{world} devices; set data.batch_size to at most {len(self.source) // world}"
            )

    def _sampler(self) -> Resumable:
        return self.source.sampler(
            seed=self.seed, rank=self._rank(), num_devices=self._world_size(), batch_size=self.batch_size
        )

    def _rank(self) -> int:
        return self.trainer.global_rank if self.trainer else 0

    def _world_size(self) -> int:
        return self.trainer.world_size if self.trainer else 1
