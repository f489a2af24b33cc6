"""Images for pre-training, with what is needed to watch the features meanwhile."""

import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Literal, cast

from lightning import LightningDataModule
from lightning.pytorch.loops.progress import _ProcessedTracker as ProcessedTracker
from torch.utils.data import DataLoader, default_collate

from conmim_lightning.batches import PretrainBatch
from conmim_lightning.data.ade20k import PairSource
from conmim_lightning.data.checks import at_least
from conmim_lightning.data.cores import available_cores
from conmim_lightning.data.crop import RandomResizedCrop
from conmim_lightning.data.datasets import LabelledDataset, Masking, PretrainDataset, SegmentationDataset
from conmim_lightning.data.decode import BrokenImageError, check_channels, decode
from conmim_lightning.data.folder import FolderSource, check_folder
from conmim_lightning.data.loaders import evaluation_loader, train_loader
from conmim_lightning.data.sampler import EpochSampler, SampleKey
from conmim_lightning.perturbation.draw import PerturbationDraw
from conmim_lightning.randomness import generator

Role = Literal["reference", "query"]


class UncuratedDataModule(LightningDataModule):
    """Any tree of images, labelled or not; labels are never trained on.

    Args:
        root: folder with images at any depth.
        crop: geometry shared by both views.
        masking: masking rule.
        perturbation: draws what is done to each view.
        mean: of the images, per channel, in units of the full range; the task normalises with it.
        std: likewise, > 0.
        batch_size: images a step and device, >= 2 (BatchNorm).
        seed: of order, crops, perturbations and masks.
        channels: 1 (grey), 3 (RGB) or 4 (RGBA).
        num_workers: loader processes; null takes one for each core that the process may use, at most 16.
        labelled_root: folder with ``train/<class>/`` and ``val/<class>/`` for the k-NN probe; null for none.
        class_map_root: folder in ADE20K's layout for the dense probe; null for none.
        num_map_classes: object classes of those class maps, which count from 1.
        probe_batch_size: images a batch for the probes.
        knn_images: at most this many reference and as many query images for the k-NN, evenly spaced; null for all.
        dense_images: likewise for the dense probe.
        keep_decoded: keep decoded training images in memory, once a loader process; for collections that fit there.
        prepare: makes the files where they are missing, once a machine; null where they exist already.

    Raises:
        ValueError: a number is out of range, or, in ``setup``, a folder is unfit.
    """

    def __init__(
        self,
        *,
        root: str,
        crop: RandomResizedCrop,
        masking: Masking,
        perturbation: PerturbationDraw,
        mean: list[float],
        std: list[float],
        batch_size: int,
        seed: int,
        channels: int = 3,
        num_workers: int | None = None,
        labelled_root: str | None = None,
        class_map_root: str | None = None,
        num_map_classes: int | None = None,
        probe_batch_size: int = 256,
        knn_images: int | None = 50_000,
        dense_images: int | None = 1_000,
        keep_decoded: bool = False,
        prepare: Callable[[], None] | None = None,
    ) -> None:
        super().__init__()
        check_channels(channels)
        if len(mean) != channels or len(std) != channels:
            raise ValueError(f"mean and std need {channels} entries, one a channel, got {list(mean)} and {list(std)}")
        if class_map_root is not None and not num_map_classes:
            raise ValueError("class_map_root needs num_map_classes, the number of classes in the maps")
        at_least(2, batch_size=batch_size)  # for BatchNorm
        at_least(0, num_workers=num_workers)
        at_least(1, knn_images=knn_images, dense_images=dense_images, probe_batch_size=probe_batch_size)
        for folder in filter(None, (root, labelled_root, class_map_root)) if prepare is None else ():
            check_folder(folder)
        self.root = Path(root)
        self.crop = crop
        self.masking = masking
        self.draw = perturbation
        self.mean, self.std = tuple(mean), tuple(std)
        self.batch_size = batch_size
        self.seed = seed
        self.channels = channels
        self.num_workers = min(available_cores(), 16) if num_workers is None else num_workers
        self.labelled_root = Path(labelled_root) if labelled_root else None
        self.class_map_root = Path(class_map_root) if class_map_root else None
        self.num_map_classes = num_map_classes
        self.probe_batch_size = probe_batch_size
        self.probe_limits = {"knn": knn_images, "dense": dense_images}
        self.prepare = prepare
        self.keep_decoded = keep_decoded
        self._replaced: list[int] = []
        self._resume_from = (0, 0, 0)  # epoch, samples of it over all devices, batches of the whole run
        self.loaded_at = 0.0

    @property
    def sample_shapes(self) -> tuple[tuple[int, ...], tuple[int, ...]]:
        """Shapes of a crop, (C, H, W), and of a mask, (h, w); reads no data."""
        return (self.channels, self.crop.size, self.crop.size), tuple(self.masking(generator(0, 0, 0)).shape)

    def prepare_data(self) -> None:
        """Make the files, where the configuration says how."""
        if self.prepare is not None:
            self.prepare()

    def setup(self, stage: str | None = None) -> None:
        """Find the files and decode a first one, so that unfit data ends the run at once."""
        if not hasattr(self, "source"):  # the command looks before the trainer does
            self.source = FolderSource(self.root)
        world = self._world_size()
        if len(self.source) < self.batch_size * world:
            raise ValueError(
                f"{len(self.source)} images below {str(self.root)!r} do not fill one batch of {self.batch_size} x "
                f"{world} devices; set data.batch_size to at most {len(self.source) // world}"
            )
        self.probes: dict[str, dict[Role, Any]] = {}
        if self.labelled_root:
            reference = FolderSource(self.labelled_root / "train", labelled=True)
            query = FolderSource(self.labelled_root / "val", labelled=True, classes=reference.classes)
            self.probes["knn"] = {"reference": self._labelled(reference), "query": self._labelled(query)}
        if self.class_map_root:
            self.probes["dense"] = {
                "reference": self._class_maps(self.class_map_root, "training"),
                "query": self._class_maps(self.class_map_root, "validation"),
            }
        self.train_set = PretrainDataset(
            self.source,
            crop=self.crop,
            perturbation=self.draw,
            masking=self.masking,
            channels=self.channels,
            seed=self.seed,
            keep_decoded=self.keep_decoded,
        )
        self.train_set[SampleKey(0, 0)]

    def on_before_batch_transfer(self, batch: Any, dataloader_idx: int) -> Any:
        """Note the time, and, while the batch is on the CPU, which images were replaced because they are broken."""
        self.loaded_at = time.perf_counter()
        if isinstance(batch, PretrainBatch):
            self._replaced += batch.index[batch.index != batch.read_index].tolist()
        return batch

    def take_replaced(self) -> list[int]:
        """Numbers of the images that were replaced since the last call."""
        taken, self._replaced = self._replaced, []
        return taken

    def train_dataloader(self) -> DataLoader[Any]:
        """Batches of ``PretrainBatch``, from where a resumed run stopped.

        Raises:
            ValueError: that place does not fall between two batches.
        """
        trainer, world = self.trainer, self._world_size()
        rank = trainer.global_rank if trainer else 0
        sampler = EpochSampler(len(self.source), seed=self.seed, rank=rank, num_devices=world)
        epoch, samples, _ = self._resume_from
        if samples % (self.batch_size * world):
            raise ValueError(
                f"the checkpoint lies {samples} samples into epoch {epoch}, which is no multiple of the batch of "
                f"{self.batch_size} x {world} devices; resume with the batch over all devices of the interrupted run"
            )
        sampler.resume(epoch, samples // world)
        return train_loader(
            self.train_set,
            sampler=sampler,
            batch_size=self.batch_size,
            num_workers=self.num_workers,
            pin_memory=trainer is not None and trainer.strategy.root_device.type == "cuda",
        )

    def state_dict(self) -> dict[str, int]:
        """The place that training has reached, for Lightning's checkpoint.

        What counts is what training has finished, not what the workers have prepared; in samples over all devices, so
        that it holds for another number of devices too.
        """
        assert self.trainer is not None
        finished = cast(ProcessedTracker, self.trainer.fit_loop.epoch_loop.batch_progress.total).processed
        whole = self.batch_size * self._world_size()
        epoch, samples, before = self._resume_from
        epochs, batches = divmod(samples // whole + finished - before, int(self.trainer.num_training_batches))
        return {"epoch": epoch + epochs, "samples": batches * whole, "batches": finished}

    def load_state_dict(self, state_dict: dict[str, int]) -> None:
        """Go on from a saved place."""
        self._resume_from = (state_dict["epoch"], state_dict["samples"], state_dict["batches"])

    def probe_loaders(self) -> Iterator[tuple[str, Role, DataLoader[Any]]]:
        """Probe ("knn" or "dense"), role of the batches, and the batches of this device."""
        trainer = self.trainer
        for probe, parts in self.probes.items():
            limit = self.probe_limits[probe]
            for role, dataset in parts.items():
                yield (
                    probe,
                    role,
                    evaluation_loader(
                        dataset,
                        batch_size=self.probe_batch_size,
                        num_workers=0 if min(limit or len(dataset), len(dataset)) <= 2048 else self.num_workers,
                        rank=trainer.global_rank if trainer else 0,
                        num_devices=self._world_size(),
                        limit=limit,
                    ),
                )

    def held_out_crops(self, count: int) -> PretrainBatch:
        """For pictures: the first query images of a probe, whole, else the first training images as in epoch 0."""
        dataset = self.train_set
        for probe in ("dense", "knn"):
            if probe in self.probes:
                source = self.probes[probe]["query"].source
                source = source.images if isinstance(source, PairSource) else source
                dataset = PretrainDataset(
                    source,
                    crop=RandomResizedCrop(self.crop.size, scale=(1.0, 1.0), ratio=(1.0, 1.0)),
                    perturbation=self.draw,
                    masking=self.masking,
                    channels=self.channels,
                    seed=self.seed,
                )
                break
        return default_collate([dataset[SampleKey(0, index)] for index in range(min(count, len(dataset)))])

    def explain(self, index: int) -> tuple[str, str]:
        """Path of a training image, and why it cannot be read (empty if it can)."""
        path = self.source.path(index)
        try:
            decode(path, self.channels)
        except BrokenImageError as error:
            return str(path), str(error)
        return str(path), ""

    def _labelled(self, source: FolderSource) -> LabelledDataset:
        return LabelledDataset(source, size=self.crop.size, channels=self.channels)

    def _class_maps(self, root: Path, part: str) -> SegmentationDataset:
        return SegmentationDataset(PairSource(root, part), size=self.crop.size, channels=self.channels)

    def _world_size(self) -> int:
        return self.trainer.world_size if self.trainer else 1
