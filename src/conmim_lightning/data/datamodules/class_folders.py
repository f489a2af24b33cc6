"""Pre-training on class folders without their labels, which the k-NN probe alone reads."""

from pathlib import Path
from typing import Any

from conmim_lightning.data.datamodules.pretrain import PretrainDataModule
from conmim_lightning.data.sources.base import Source
from conmim_lightning.data.sources.folder import FolderSource
from conmim_lightning.data.sources.subsets import check_subset, hold_out, per_class


class ClassFoldersDataModule(PretrainDataModule):
    """Pre-training on ``root/train/<class>/``; the k-NN probe classifies a held-out sample of these images.

    The model is pre-trained on all images, as it sees no label. The test split is never read.

    Args:
        root: folder with ``train``.
        held_out_fraction: fraction of each class's images that the k-NN probe classifies, in (0, 1); the others are its
            reference.
        subset_count: number of images per class to pre-train on; null for all.
        subset_seed: seed of the subset and of the held-out images.
        index_dir: folder to store the index of the folder in; null does not store it.
        **others: see ``PretrainDataModule``, except source and labelled_root.

    Raises:
        ValueError: a number is out of range; in ``setup``, the folder is invalid.
    """

    def __init__(
        self,
        root: str,
        *,
        held_out_fraction: float = 0.1,
        subset_count: int | None = None,
        subset_seed: int = 0,
        index_dir: str | None = None,
        **others: Any,
    ) -> None:
        if subset_count is not None:
            check_subset(None, subset_count)
        if not 0 < held_out_fraction < 1:
            raise ValueError(f"held_out_fraction must lie in (0, 1), got {held_out_fraction}")
        self.held_out_fraction = held_out_fraction
        self.subset_count, self.subset_seed = subset_count, subset_seed
        super().__init__(root, source=self._train_source, index_dir=index_dir, **others)

    def _train_source(self, root: str) -> Source:
        source = self._open()
        return (
            source if self.subset_count is None else per_class(source, count=self.subset_count, seed=self.subset_seed)
        )

    def _add_probes(self) -> None:
        super()._add_probes()
        self.probes.add_labelled(*hold_out(self._open(), fraction=self.held_out_fraction, seed=self.subset_seed))

    def _open(self) -> FolderSource:
        formats = self.decoder.formats
        return FolderSource(Path(self.root, "train"), labelled=True, index_dir=self.index_dir, formats=formats)
