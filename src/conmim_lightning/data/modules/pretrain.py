"""Images for pre-training, with what is needed to watch the features meanwhile."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, cast

from torch.utils.data import DataLoader

from conmim_lightning.batches import PretrainBatch
from conmim_lightning.data.checks import at_least
from conmim_lightning.data.crop import RandomResizedCrop
from conmim_lightning.data.datasets import Masking, PretrainDataset
from conmim_lightning.data.decode import Decoder
from conmim_lightning.data.files import check_folder
from conmim_lightning.data.lists import read_names
from conmim_lightning.data.modules.resumable import ResumableDataModule
from conmim_lightning.data.probes import Probes, Role
from conmim_lightning.data.sampler import SampleKey
from conmim_lightning.data.sources import Source
from conmim_lightning.data.summary import summarize
from conmim_lightning.perturbation.draw import PerturbationDraw
from conmim_lightning.randomness import generator


class UncuratedDataModule(ResumableDataModule):
    """Any collection of images, labelled or not; labels are never trained on.

    Args:
        root: where the collection lies.
        source: takes root and finds the images, see ``data.folder``, ``manifest``, ``shards``, ``stream``.
        decoder: of the images' bytes.
        crop: geometry shared by both views.
        masking: masking rule.
        perturbation: draws what is done to each view.
        mean: of the images, per channel, in units of the full range; the task normalises with it.
        std: likewise, > 0.
        batch_size: images a step and device, >= 2 (BatchNorm).
        seed: of order, crops, perturbations and masks.
        exclude: list of images to leave out, such as ``inspect`` writes; null for none.
        num_workers: loader processes; null takes one for each usable core, at most 16.
        labelled_root: folder with ``train/<class>/`` and ``val/<class>/`` for the k-NN probe; null for none.
        class_map_root: folder in ADE20K's layout for the dense probe; null for none.
        num_map_classes: object classes of those class maps, which count from 1.
        index_dir: where to keep what scans of the probes found; null for nowhere.
        probe_batch_size: images a batch for the probes.
        knn_images: at most so many reference and query images each for the k-NN, evenly spaced; null for all.
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
        source: Callable[[str], Source],
        decoder: Decoder,
        crop: RandomResizedCrop,
        masking: Masking,
        perturbation: PerturbationDraw,
        mean: list[float],
        std: list[float],
        batch_size: int,
        seed: int,
        exclude: str | None = None,
        num_workers: int | None = None,
        labelled_root: str | None = None,
        class_map_root: str | None = None,
        num_map_classes: int | None = None,
        index_dir: str | None = None,
        probe_batch_size: int = 256,
        knn_images: int | None = 50_000,
        dense_images: int | None = 1_000,
        keep_decoded: bool = False,
        prepare: Callable[[], None] | None = None,
    ) -> None:
        super().__init__(root=root, batch_size=batch_size, seed=seed, num_workers=num_workers)
        channels = decoder.channels
        if len(mean) != channels or len(std) != channels:
            raise ValueError(f"mean and std need {channels} entries, one a channel, got {list(mean)} and {list(std)}")
        if class_map_root is not None and not num_map_classes:
            raise ValueError("class_map_root needs num_map_classes, the number of classes in the maps")
        at_least(2, batch_size=batch_size)  # for BatchNorm
        at_least(1, knn_images=knn_images, dense_images=dense_images, probe_batch_size=probe_batch_size)
        for folder in (root, labelled_root, class_map_root) if prepare is None else ():
            check_folder(folder if folder and "://" not in folder else ".")
        self.make_source = source
        self.decoder = decoder
        self.crop = crop
        self.masking = masking
        self.draw = perturbation
        self.mean, self.std = tuple(mean), tuple(std)
        self.excluded = read_names(exclude) if exclude else set()
        self.labelled_root = Path(labelled_root) if labelled_root else None
        self.class_map_root = Path(class_map_root) if class_map_root else None
        self.num_map_classes = num_map_classes
        self.index_dir = index_dir
        limits = {"knn": knn_images, "dense": dense_images}
        self.probes = Probes(decoder=decoder, size=crop.size, batch_size=probe_batch_size, limits=limits)
        self.prepare = prepare
        self.keep_decoded = keep_decoded

    @property
    def sample_shapes(self) -> tuple[tuple[int, ...], tuple[int, ...]]:
        """Shapes of a crop, (C, H, W), and of a mask, (h, w); reads no data."""
        return (self.decoder.channels, *2 * [self.crop.size]), tuple(self.masking(generator(0, 0, 0)).shape)

    def prepare_data(self) -> None:
        """Make the files, where the configuration says how, and their index, once a machine."""
        if self.prepare:
            self.prepare()
        if not hasattr(self, "source"):
            self.source = self.find_source()

    def setup(self, stage: str | None = None) -> None:
        """Find the files and decode a first one, so that unfit data ends the run at once."""
        if not hasattr(self, "source"):  # neither the command nor prepare_data has looked for it in this process
            self.source = self.find_source()
        if not self.probes.parts:
            self._find_probes()
        self._check_fills()
        self.train_set = self._pretrain_set(self.source, self.crop, keep_decoded=self.keep_decoded)
        self._sampler()  # which tells a stream how many devices there are
        self.collection = self.source.fingerprint()
        self.train_set[SampleKey(0, 0)]

    def find_source(self) -> Source:
        """The collection, without what is excluded."""
        found = self.make_source(self.root)
        return found.without(self.excluded) if self.excluded else found

    def summary(self) -> str:
        """What was found: count, formats, sizes, broken images."""
        return summarize(self.source, self.decoder)

    def probe_loaders(self) -> Iterator[tuple[str, Role, DataLoader[Any]]]:
        """Probe ("knn" or "dense"), role of the batches, and the batches of this device."""
        return self.probes.loaders(num_workers=self.num_workers, rank=self._rank(), num_devices=self._world_size())

    def held_out_crops(self, count: int) -> PretrainBatch:
        """For pictures: the first query images of a probe, whole, else the first training images as in epoch 0."""
        dataset: PretrainDataset = cast(PretrainDataset, self.train_set)
        source = self.probes.query_source()
        if source is not None:
            whole = RandomResizedCrop(self.crop.size, scale=(1.0, 1.0), ratio=(1.0, 1.0))
            dataset = self._pretrain_set(source, whole)
        return dataset.collate([dataset[SampleKey(0, index)] for index in range(min(count, len(dataset)))])

    def _find_probes(self) -> None:
        if self.labelled_root:
            self.probes.add_labelled_folder(self.labelled_root, self.index_dir)
        if self.class_map_root:
            self.probes.add_class_maps(self.class_map_root)

    def _pretrain_set(self, source: Source, crop: RandomResizedCrop, *, keep_decoded: bool = False) -> PretrainDataset:
        return PretrainDataset(
            source,
            decoder=self.decoder,
            crop=crop,
            perturbation=self.draw,
            masking=self.masking,
            seed=self.seed,
            keep_decoded=keep_decoded,
        )
