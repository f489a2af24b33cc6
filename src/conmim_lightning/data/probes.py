"""Labelled images and class maps to watch the features with; never trained on."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal

from torch.utils.data import DataLoader, Subset

from conmim_lightning.data.ade20k import PairSource
from conmim_lightning.data.datasets import LabelledDataset, SegmentationDataset
from conmim_lightning.data.decode import Decoder
from conmim_lightning.data.folder import FolderSource
from conmim_lightning.data.loaders import evaluation_loader
from conmim_lightning.data.sources import Source

Role = Literal["reference", "query"]

_FEW = 2048  # so many images are read sooner than loader processes start


class Probes:
    """The data of the k-NN ("knn", labelled images) and of the dense probe ("dense", class maps).

    Args:
        decoder: of the images' bytes.
        size: side of the images in pixels.
        batch_size: images a batch.
        limits: by probe, at most so many reference and as many query images, evenly spaced; None for all.
    """

    def __init__(self, *, decoder: Decoder, size: int, batch_size: int, limits: dict[str, int | None]) -> None:
        self.decoder = decoder
        self.size = size
        self.batch_size = batch_size
        self.limits = limits
        self.parts: dict[str, dict[Role, Any]] = {}

    def add_labelled(self, reference: Source, query: Source) -> None:
        """Probe with labelled images."""
        parts: dict[Role, Source] = {"reference": reference, "query": query}
        self.parts["knn"] = {
            role: LabelledDataset(source, decoder=self.decoder, size=self.size) for role, source in parts.items()
        }

    def add_labelled_folder(self, root: Path, index_dir: str | None) -> None:
        """Probe with ``train/<class>/`` and ``val/<class>/`` below a folder."""
        reference = FolderSource(root / "train", labelled=True, index_dir=index_dir)
        self.add_labelled(
            reference, FolderSource(root / "val", labelled=True, classes=reference.classes, index_dir=index_dir)
        )

    def add_class_maps(self, root: Path) -> None:
        """Probe with class maps in ADE20K's layout below a folder."""
        parts: dict[Role, str] = {"reference": "training", "query": "validation"}
        self.parts["dense"] = {
            role: SegmentationDataset(PairSource(root, part), decoder=self.decoder, size=self.size)
            for role, part in parts.items()
        }

    def query_source(self) -> Source | None:
        """Images that nothing is trained on, those with class maps first; None where there are none."""
        for probe in ("dense", "knn"):
            if probe in self.parts:
                source = self.parts[probe]["query"].source
                return source.images if isinstance(source, PairSource) else source
        return None

    def squares(self, source: Source, numbers: Any, size: int, *, num_workers: int) -> DataLoader[Any]:
        """Central squares of some images as ``LabelledBatch``, in order."""
        dataset = Subset(LabelledDataset(source, decoder=self.decoder, size=size), numbers)
        return evaluation_loader(dataset, batch_size=self.batch_size, num_workers=num_workers, rank=0, num_devices=1)

    def loaders(self, *, num_workers: int, rank: int, num_devices: int) -> Iterator[tuple[str, Role, DataLoader[Any]]]:
        """Probe, role of the batches, and the batches of this device."""
        for probe, parts in self.parts.items():
            limit = self.limits[probe]
            for role, dataset in parts.items():
                few = min(limit or len(dataset), len(dataset)) <= _FEW
                yield (
                    probe,
                    role,
                    evaluation_loader(
                        dataset,
                        batch_size=self.batch_size,
                        num_workers=0 if few else num_workers,
                        rank=rank,
                        num_devices=num_devices,
                        limit=limit,
                    ),
                )
