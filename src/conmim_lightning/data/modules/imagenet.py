"""ImageNet-1K for pre-training, with its own labels to watch the features."""

from functools import partial
from pathlib import Path
from typing import Any

from conmim_lightning.data.imagenet import imagenet_source
from conmim_lightning.data.modules.pretrain import UncuratedDataModule
from conmim_lightning.data.sources import Source
from conmim_lightning.data.subsets import check_subset, per_class


class ImageNetDataModule(UncuratedDataModule):
    """Pre-training on ``root/train``; the k-NN probe compares it with ``root/val``.

    Args:
        root: folder with ``train`` and ``val``.
        train_list: official list of ``train`` (train_map.txt), relative to root; null takes folders named by WordNet
            id.
        val_list: likewise of ``val``.
        subset_share: share of each class's training images to use, drawn by ``subset_seed``; null for all.
        subset_count: training images of each class to use, likewise; null for all.
        subset_seed: of the draw.
        index_dir: where to keep what scans found; null for nowhere.
        **others: as ``UncuratedDataModule`` takes them, but for source and labelled_root.

    Raises:
        ValueError: a number is out of range, or, in ``setup``, a folder or list is unfit.
    """

    def __init__(
        self,
        *,
        root: str,
        train_list: str | None = None,
        val_list: str | None = None,
        subset_share: float | None = None,
        subset_count: int | None = None,
        subset_seed: int = 0,
        index_dir: str | None = None,
        **others: Any,
    ) -> None:
        if subset_share is not None or subset_count is not None:
            check_subset(subset_share, subset_count)
        self.subset = {"share": subset_share, "count": subset_count, "seed": subset_seed}
        self.part = partial(imagenet_source, index_dir=index_dir)
        self.lists = {"train": train_list, "val": val_list}
        super().__init__(root=root, source=self._train_source, index_dir=index_dir, **others)

    def _train_source(self, root: str) -> Source:
        whole: Any = self.part(Path(root), "train", image_list=self.lists["train"])
        if self.subset["share"] is None and self.subset["count"] is None:
            return whole
        return per_class(whole, **self.subset)

    def _find_probes(self) -> None:
        super()._find_probes()
        query: Any = self.part(Path(self.root), "val", image_list=self.lists["val"])
        self.probes.add_labelled(self.source, query)
