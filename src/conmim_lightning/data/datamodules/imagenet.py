"""ImageNet-1K for pre-training, with its own labels for the k-NN probe."""

from pathlib import Path
from typing import Any

from conmim_lightning.data.datamodules.pretrain import PretrainDataModule
from conmim_lightning.data.sources.base import Source
from conmim_lightning.data.sources.imagenet import imagenet_source
from conmim_lightning.data.sources.subsets import check_subset, per_class


class ImageNetDataModule(PretrainDataModule):
    """Pre-training on ``root/train``; the k-NN probe classifies ``root/val`` with ``root/train`` as reference.

    Args:
        root: folder with ``train`` and ``val``.
        train_list: official list of ``train`` (train_map.txt), relative to root; null for folders named by WordNet id.
        val_list: official list of ``val`` (val_map.txt), relative to root; null for folders named by WordNet id.
        subset_fraction: fraction of each class's training images to use, in (0, 1]; null for all.
        subset_count: number of training images per class to use; null for all.
        subset_seed: seed of the sample that either of them selects.
        index_dir: folder to store the indexes of folders in; null does not store them.
        **others: see ``PretrainDataModule``, except source and labelled_root.

    Raises:
        ValueError: a number is out of range; in ``setup``, a folder or list is invalid.
    """

    def __init__(
        self,
        root: str,
        *,
        train_list: str | None = None,
        val_list: str | None = None,
        subset_fraction: float | None = None,
        subset_count: int | None = None,
        subset_seed: int = 0,
        index_dir: str | None = None,
        **others: Any,
    ) -> None:
        if subset_fraction is not None or subset_count is not None:
            check_subset(subset_fraction, subset_count)
        self.subset_fraction = subset_fraction
        self.subset_count = subset_count
        self.subset_seed = subset_seed
        self.lists = {"train": train_list, "val": val_list}
        super().__init__(root, source=self._train_source, index_dir=index_dir, **others)

    def _train_source(self, root: str) -> Source:
        source = self._open("train")
        if self.subset_fraction is None and self.subset_count is None:
            return source
        return per_class(source, fraction=self.subset_fraction, count=self.subset_count, seed=self.subset_seed)

    def _add_probes(self) -> None:
        super()._add_probes()
        self.probes.add_labelled(self.source, self._open("val"))

    def _open(self, split: str) -> Source:
        return imagenet_source(Path(self.root), split, image_list=self.lists[split], index_dir=self.index_dir)
