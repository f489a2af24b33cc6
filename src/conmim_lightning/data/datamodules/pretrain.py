"""Unlabelled images for pre-training, with the data that monitors the features."""

from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any, cast

from torch.utils.data import DataLoader

from conmim_lightning.batches import PretrainBatch
from conmim_lightning.data.checks import check_at_least
from conmim_lightning.data.datamodules.base import ResumableDataModule
from conmim_lightning.data.datasets.pretrain import Masking, PretrainDataset
from conmim_lightning.data.datasets.probes import ProbeData, Role
from conmim_lightning.data.images.decode import Decoder
from conmim_lightning.data.images.files import check_exists, check_folder
from conmim_lightning.data.inspection.summary import summarize
from conmim_lightning.data.samplers.epoch import SampleKey
from conmim_lightning.data.sources.base import Source
from conmim_lightning.data.sources.folder import FolderSource
from conmim_lightning.data.sources.name_list import read_names
from conmim_lightning.data.transforms.crop import RandomResizedCrop
from conmim_lightning.masking.random_units import RandomUnitMasking
from conmim_lightning.perturbation.apply import IMAGENET_MEAN, IMAGENET_STD
from conmim_lightning.perturbation.draw import PerturbationDraw
from conmim_lightning.rng import generator


class PretrainDataModule(ResumableDataModule):
    """Any collection of images, labelled or not; labels are never trained on.

    The defaults are the published recipe on a folder of images.

    Args:
        root: path or URL of the collection.
        source: function that opens the collection, given root, see ``data.sources``; null for a folder.
        decoder: decoder of the image bytes; null for 3 channels.
        crop: random crop shared by both views; null for the official 224 pixels.
        masking: masking rule; null for the official one.
        perturbation: sampler of each view's perturbation; null for the official one.
        mean: mean of the images per channel, on a scale of 0 to 1; the task normalises with it.
        std: standard deviation per channel, on the same scale, > 0.
        batch_size: images per step and device, >= 2 (BatchNorm).
        seed: seed of order, crops, perturbations and masks.
        exclude: file that lists images to leave out, as ``inspect`` writes it; null for none.
        num_workers: number of loader processes; null for one per usable core, at most 16.
        labelled_root: folder with ``train/<class>/`` and ``val/<class>/`` for the k-NN probe; null for no k-NN probe.
        class_map_root: folder in ADE20K's layout for the dense probe; null for no dense probe.
        num_map_classes: number of object classes in those class maps, with values from 1.
        index_dir: folder to store the indexes of the probes' folders in; null does not store them.
        probe_batch_size: images per batch of the probes.
        knn_images: largest number of reference and of query images of the k-NN probe, evenly spaced; null for all.
        dense_images: largest number of reference and of query images of the dense probe; null for all.
        cache_decoded: keep decoded images in memory, per loader process; for small collections.
        prepare: function that creates missing files, once per machine; null if they exist.

    Raises:
        ValueError: a number is out of range or a folder is missing; in ``setup``, the images are invalid or too few.
    """

    smallest_batch = 2  # for BatchNorm

    def __init__(
        self,
        root: str,
        *,
        source: Callable[[str], Source] | None = None,
        decoder: Decoder | None = None,
        crop: RandomResizedCrop | None = None,
        masking: Masking | None = None,
        perturbation: PerturbationDraw | None = None,
        mean: Sequence[float] = IMAGENET_MEAN,
        std: Sequence[float] = IMAGENET_STD,
        batch_size: int = 256,
        seed: int = 0,
        exclude: str | None = None,
        num_workers: int | None = None,
        labelled_root: str | None = None,
        class_map_root: str | None = None,
        num_map_classes: int | None = None,
        index_dir: str | None = None,
        probe_batch_size: int = 256,
        knn_images: int | None = 50_000,
        dense_images: int | None = 1_000,
        cache_decoded: bool = False,
        prepare: Callable[[], None] | None = None,
    ) -> None:
        super().__init__(
            root=root,
            decoder=decoder or Decoder(),
            mean=mean,
            std=std,
            batch_size=batch_size,
            seed=seed,
            num_workers=num_workers,
        )
        if class_map_root is not None and not num_map_classes:
            raise ValueError("class_map_root needs num_map_classes, the number of classes in the maps")
        check_at_least(self.smallest_batch, batch_size=batch_size)
        check_at_least(1, knn_images=knn_images, dense_images=dense_images, probe_batch_size=probe_batch_size)
        if prepare is None:
            check_exists(root)
            for folder in filter(None, (labelled_root, class_map_root)):
                check_folder(folder)
        self.make_source = source or partial(FolderSource, formats=self.decoder.formats)
        self.crop = crop or RandomResizedCrop()
        self.masking: Masking = masking or RandomUnitMasking()
        self.perturbation = perturbation or PerturbationDraw()
        self.excluded = read_names(exclude) if exclude else set()
        self.labelled_root = Path(labelled_root) if labelled_root else None
        self.class_map_root = Path(class_map_root) if class_map_root else None
        self.num_map_classes = num_map_classes
        self.index_dir = index_dir
        self.probes = ProbeData(
            decoder=self.decoder,
            size=self.crop.size,
            batch_size=probe_batch_size,
            limits={"knn": knn_images, "dense": dense_images},
        )
        self.prepare = prepare
        self.cache_decoded = cache_decoded

    @property
    def sample_shapes(self) -> tuple[tuple[int, ...], tuple[int, ...]]:
        """Shapes of a crop, (C, H, W), and of a mask, (h, w); reads no data."""
        return (self.decoder.channels, *2 * [self.crop.size]), tuple(self.masking(generator(0, 0, 0)).shape)

    def prepare_data(self) -> None:
        """Create missing files, if ``prepare`` is given, and their index, once per machine."""
        if self.prepare:
            self.prepare()
        if not hasattr(self, "source"):
            self.source = self.open_source()

    def setup(self, stage: str | None = None) -> None:
        """Open the collection and read a first sample, so that invalid data ends the run early."""
        if not hasattr(self, "source"):  # a process in which prepare_data did not run
            self.source = self.open_source()
        if not self.probes.datasets:
            self._add_probes()
        self._check_fills()
        self.train_set = self._pretrain_set(self.source, self.crop, cache_decoded=self.cache_decoded)
        self._sampler()  # tells a stream the number of devices
        self.fingerprint = self.source.fingerprint()
        self.train_set[SampleKey(0, 0)]

    def open_source(self) -> Source:
        """Open the collection without the excluded images."""
        source = self.make_source(self.root)
        return source.without(self.excluded) if self.excluded else source

    def summary(self) -> str:
        """Summarise the collection: number of images, formats, sizes, broken images."""
        return summarize(self.source, self.decoder)

    def probe_loaders(self) -> Iterator[tuple[str, Role, DataLoader[Any]]]:
        """Yield each probe ("knn" or "dense"), each role of its images, and the loader of this device."""
        return self.probes.loaders(num_workers=self.num_workers, rank=self._rank(), num_devices=self._world_size())

    def held_out_crops(self, count: int) -> PretrainBatch:
        """Return images for figures: a probe's first query images at full scale, or training crops of epoch 0."""
        dataset = cast(PretrainDataset, self.train_set)
        source = self.probes.query_source()
        if source is not None:
            whole = RandomResizedCrop(self.crop.size, scale=(1.0, 1.0), ratio=(1.0, 1.0))
            dataset = self._pretrain_set(source, whole)
        return dataset.collate([dataset[SampleKey(0, index)] for index in range(min(count, len(dataset)))])

    def _add_probes(self) -> None:
        if self.labelled_root:
            self.probes.add_labelled_folder(self.labelled_root, self.index_dir)
        if self.class_map_root and self.num_map_classes:
            self.probes.add_class_maps(self.class_map_root, self.num_map_classes)

    def _pretrain_set(self, source: Source, crop: RandomResizedCrop, *, cache_decoded: bool = False) -> PretrainDataset:
        return PretrainDataset(
            source,
            decoder=self.decoder,
            crop=crop,
            perturbation=self.perturbation,
            masking=self.masking,
            seed=self.seed,
            cache_decoded=cache_decoded,
        )
