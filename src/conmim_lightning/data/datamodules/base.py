"""Base class of the data modules: a resumable order of the training images, and a record of broken ones."""

import time
from collections.abc import Sequence
from typing import Any, cast

from lightning import LightningDataModule
from lightning.pytorch.loops.loop import _Loop
from lightning.pytorch.loops.progress import _ProcessedTracker as ProcessedTracker
from lightning.pytorch.utilities import rank_zero_warn
from torch.utils.data import DataLoader

from conmim_lightning.data.checks import check_at_least
from conmim_lightning.data.cores import loader_processes
from conmim_lightning.data.datasets.base import ImageDataset
from conmim_lightning.data.images.decode import Decoder
from conmim_lightning.data.loaders import train_loader
from conmim_lightning.data.samplers.epoch import ResumableSampler
from conmim_lightning.data.samplers.position import DataPosition
from conmim_lightning.data.sources.base import Source


class ResumableDataModule(LightningDataModule):
    """Training batches in an order that is independent of the number of devices and resumes at any batch.

    A subclass sets ``source``, ``train_set`` and the source's ``fingerprint``.

    Args:
        root: path or URL of the collection.
        decoder: decoder of the image bytes.
        mean: mean of the images per channel, on a scale of 0 to 1; the task normalises with it.
        std: standard deviation per channel, on the same scale, > 0.
        batch_size: images per step and device.
        seed: seed of the order.
        num_workers: number of loader processes; null for one per usable core, at most 16.

    Raises:
        ValueError: a number is out of range.
    """

    smallest_batch = 1
    """Images per device that training needs."""

    source: Source
    train_set: ImageDataset[Any]
    fingerprint: str

    def __init__(
        self,
        *,
        root: str,
        decoder: Decoder,
        mean: Sequence[float],
        std: Sequence[float],
        batch_size: int,
        seed: int,
        num_workers: int | None,
    ) -> None:
        super().__init__()
        check_at_least(0, num_workers=num_workers)
        channels = decoder.channels
        if len(mean) != channels or len(std) != channels:
            raise ValueError(f"mean and std need {channels} entries, one per channel, got {list(mean)} and {list(std)}")
        self.root = root
        self.decoder = decoder
        self.mean, self.std = tuple(mean), tuple(std)
        self.batch_size = batch_size
        self.seed = seed
        self.num_workers = loader_processes(num_workers)
        self._broken: list[str] = []
        self._resume_from = DataPosition()
        self._resumed_fingerprint: str | None = None
        self.loaded_at = 0.0

    def on_before_batch_transfer(self, batch: Any, dataloader_idx: int) -> Any:
        """Record the time and the batch's broken training images."""
        self.loaded_at = time.perf_counter()
        if self.trainer is not None and self.trainer.training:
            self._broken += [line for lines in getattr(batch, "broken", ()) if lines for line in lines.split("\n")]
        return batch

    def pop_broken(self) -> list[str]:
        """Return the broken images since the last call, each as name, tab, reason."""
        self._broken, taken = [], self._broken
        return taken

    def train_dataloader(self) -> DataLoader[Any]:
        """Return the training loader, from the position of a resumed run."""
        sampler = self._sampler()
        self._check_fingerprint()
        self._leave_finished_epoch()
        sampler.resume(self._resume_from.epoch, self._resume_from.samples // self._world_size())
        return train_loader(
            self.train_set,
            sampler=sampler,
            batch_size=self.batch_size,
            num_workers=self.source.workers(self.num_workers),
            pin_memory=self.trainer is not None and self.trainer.strategy.root_device.type == "cuda",
        )

    def state_dict(self) -> dict[str, Any]:
        """Return the position that training has reached, for any number of devices; prefetched batches do not count."""
        assert self.trainer
        position = self._resume_from
        if self.trainer.num_training_batches != float("inf"):  # else nothing was trained
            finished = cast(ProcessedTracker, self.trainer.fit_loop.epoch_loop.batch_progress.total).processed
            position = position.after(
                finished,
                global_batch=self._global_batch(),
                batches_per_epoch=int(self.trainer.num_training_batches),
            )
        return position._asdict() | {"fingerprint": self.fingerprint, "global_batch": self._global_batch()}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Continue at a stored position, also with another batch size or number of devices."""
        stored = DataPosition(*(state_dict[name] for name in DataPosition._fields))
        self._resume_from = stored.rounded_down(self._global_batch())
        self._resumed_fingerprint = state_dict.get("fingerprint")
        if state_dict.get("global_batch", self._global_batch()) != self._global_batch():
            self._count_batches_again()
        if repeated := stored.samples - self._resume_from.samples:
            rank_zero_warn(
                f"the checkpoint is {stored.samples} samples into epoch {stored.epoch}, within a batch of "
                f"{self._global_batch()}; {repeated} samples are seen again"
            )

    def _leave_finished_epoch(self) -> None:
        """Begin the next epoch after a checkpoint of an epoch's end, also with ``max_steps``.

        With ``max_steps``, Lightning enters the finished epoch again, and the order of the next one changes.
        """
        fit_loop: Any = getattr(self.trainer, "fit_loop", None)
        if not getattr(fit_loop, "restarting", False):
            return
        progress = fit_loop.epoch_progress.current
        if progress.ready == progress.started == progress.processed:
            set_restarting = cast(property, _Loop.restarting).fset
            assert set_restarting
            set_restarting(fit_loop, False)

    def _count_batches_again(self) -> None:
        """Replace the number of finished batches of this epoch, which Lightning restores, by that of the new size."""
        connector = getattr(self.trainer, "_checkpoint_connector", None)
        loops = (getattr(connector, "_loaded_checkpoint", None) or {}).get("loops")
        if not loops:
            return
        current = loops["fit_loop"]["epoch_loop.batch_progress"]["current"]
        if not current["ready"]:
            return
        samples = self._resume_from.samples or len(self.source)  # 0 samples: the epoch has ended
        change = samples // self._global_batch() - current["ready"]
        current |= {name: count + change for name, count in current.items()}

    def _global_batch(self) -> int:
        return self.batch_size * self._world_size()

    def _check_fingerprint(self) -> None:
        """Raise ValueError if devices see different images; warn if the images have changed since the checkpoint."""
        own = self.fingerprint
        if self.trainer and self._world_size() > 1 and self.trainer.strategy.broadcast(own) != own:
            raise ValueError(
                f"rank {self._rank()} finds other images in {self.root!r} than rank 0: {len(self.source)} images"
            )
        if self._resumed_fingerprint not in (None, own):
            rank_zero_warn(
                f"{self.root!r} holds other images than when the run was interrupted, or in another order; the rest "
                f"of epoch {self._resume_from.epoch} differs from that of an uninterrupted run"
            )

    def _check_fills(self) -> None:
        """Raise ValueError unless the images fill a global batch."""
        world, count = self._world_size(), len(self.source)
        if count >= self._global_batch():
            return
        text = f"{count} images from {self.root!r} do not fill one batch of {self.batch_size} x {world} devices"
        if count // world < self.smallest_batch:
            raise ValueError(f"{text}; at least {self.smallest_batch} images per device are needed")
        raise ValueError(f"{text}; set data.batch_size to at most {count // world}")

    def _check_trainer(self) -> None:
        """Raise ValueError if the Trainer would insert a distributed sampler; the images are distributed already."""
        connector = getattr(self.trainer, "_accelerator_connector", None)
        if self._world_size() > 1 and getattr(connector, "use_distributed_sampler", False):
            raise ValueError(
                "the data module distributes the images itself, so that the order does not depend on the number of "
                "devices; set Trainer(use_distributed_sampler=False)"
            )

    def _sampler(self) -> ResumableSampler:
        self._check_trainer()
        return self.source.sampler(
            seed=self.seed, rank=self._rank(), num_devices=self._world_size(), batch_size=self.batch_size
        )

    def _rank(self) -> int:
        return self.trainer.global_rank if self.trainer else 0

    def _world_size(self) -> int:
        return self.trainer.world_size if self.trainer else 1
