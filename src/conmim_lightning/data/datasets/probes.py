"""Labelled images and class maps that monitor the features; nothing is trained on them."""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Literal

from torch.utils.data import DataLoader

from conmim_lightning.data.datasets.base import ImageDataset
from conmim_lightning.data.datasets.classification import ClassificationDataset
from conmim_lightning.data.datasets.segmentation import SegmentationDataset
from conmim_lightning.data.images.decode import Decoder
from conmim_lightning.data.loaders import evaluation_loader
from conmim_lightning.data.sources.base import Source
from conmim_lightning.data.sources.class_maps import SegmentationSplits
from conmim_lightning.data.sources.folder import FolderSource
from conmim_lightning.data.transforms.crop import CenterSquare

Role = Literal["reference", "query"]

_FEW = 2048  # images; reading so few takes less time than starting loader processes


class ProbeData:
    """Data of the k-NN probe ("knn": labelled images) and of the dense probe ("dense": class maps).

    Args:
        decoder: decoder of the image bytes.
        size: pixels per side of the images.
        batch_size: images per batch.
        limits: by probe, largest number of reference images, and of query images, evenly spaced; None for all.
    """

    def __init__(self, *, decoder: Decoder, size: int, batch_size: int, limits: Mapping[str, int | None]) -> None:
        self.decoder = decoder
        self.square = CenterSquare(size)
        self.batch_size = batch_size
        self.limits = limits
        self.datasets: dict[str, dict[Role, ImageDataset[Any]]] = {}

    def add_labelled(self, reference: Source, query: Source) -> None:
        """Add the k-NN probe with labelled images."""
        self.datasets["knn"] = {"reference": self.squares(reference), "query": self.squares(query)}

    def add_labelled_folder(self, root: Path, index_dir: str | None) -> None:
        """Add the k-NN probe with ``train/<class>/`` (reference) and ``val/<class>/`` (query) below a folder."""
        common: dict[str, Any] = {"labelled": True, "index_dir": index_dir, "formats": self.decoder.formats}
        reference = FolderSource(root / "train", **common)
        query = FolderSource(root / "val", classes=reference.classes, **common)
        self.add_labelled(reference, query)

    def add_class_maps(self, root: Path, num_classes: int) -> None:
        """Add the dense probe with class maps in ADE20K's layout below a folder: 0 = background, then the classes."""
        splits = SegmentationSplits(num_classes=num_classes, formats=self.decoder.formats)
        roles: dict[Role, str] = {"reference": "training", "query": "validation"}
        self.datasets["dense"] = {
            role: SegmentationDataset(splits(str(root), split, None), decoder=self.decoder, square=self.square)
            for role, split in roles.items()
        }

    def query_source(self) -> Source | None:
        """Return images held out from training, preferably with class maps; None if there are no probes."""
        for probe in ("dense", "knn"):
            if probe in self.datasets:
                return self.datasets[probe]["query"].source
        return None

    def squares(self, source: Source) -> ClassificationDataset:
        """Return the dataset of the central squares of a source's images."""
        return ClassificationDataset(source, decoder=self.decoder, transform=self.square, size=self.square.size)

    def loaders(self, *, num_workers: int, rank: int, num_devices: int) -> Iterator[tuple[str, Role, DataLoader[Any]]]:
        """Yield the name of each probe, each role of its images, and the loader of this device."""
        for probe, roles in self.datasets.items():
            limit = self.limits[probe]
            for role, dataset in roles.items():
                few = min(limit or len(dataset), len(dataset)) <= _FEW
                loader = evaluation_loader(
                    dataset,
                    batch_size=self.batch_size,
                    num_workers=0 if few else num_workers,
                    rank=rank,
                    num_devices=num_devices,
                    limit=limit,
                )
                yield probe, role, loader
