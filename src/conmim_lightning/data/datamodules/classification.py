"""Labelled images for fine-tuning and for probes of frozen features."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from conmim_lightning.data.checks import check_at_least
from conmim_lightning.data.datamodules.splits import SplitDataModule
from conmim_lightning.data.datasets.classification import ClassificationDataset
from conmim_lightning.data.samplers.balanced import BalancedSampler
from conmim_lightning.data.samplers.epoch import ResumableSampler
from conmim_lightning.data.sources.base import Source
from conmim_lightning.data.sources.subsets import check_subset, hold_out, labels_of, per_class
from conmim_lightning.data.transforms.classification import EvaluationTransform, TrainTransform


class ClassificationDataModule(SplitDataModule):
    """Images with one class each.

    Validation uses held-out training images if ``held_out_fraction`` is above 0, otherwise the split ``val``.

    Args:
        train_transform: transform of training images.
        evaluation_transform: transform of all other images.
        num_classes: number of classes, >= 2; null for the number that the source counts.
        held_out_fraction: fraction of each class's training images to use for validation only, in [0, 1).
        subset_fraction: fraction of each class's training images to use at all, in (0, 1]; null for all.
        subset_count: training images per class to use; null for all.
        subset_seed: seed of the subset and of the held-out images.
        balanced: sample all classes equally often, whatever their size.
        allow_missing_classes: whether validation and test may lack some of the classes.
        **others: see ``SplitDataModule``.

    Raises:
        ValueError: a number is out of range; in ``setup``, a split is invalid.
    """

    def __init__(
        self,
        *,
        train_transform: TrainTransform,
        evaluation_transform: EvaluationTransform,
        num_classes: int | None = None,
        held_out_fraction: float = 0.0,
        subset_fraction: float | None = None,
        subset_count: int | None = None,
        subset_seed: int = 0,
        balanced: bool = False,
        allow_missing_classes: bool = False,
        **others: Any,
    ) -> None:
        check_at_least(2, num_classes=num_classes)
        super().__init__(num_classes=num_classes, **others)
        if not 0 <= held_out_fraction < 1:
            raise ValueError(f"held_out_fraction must lie in [0, 1), got {held_out_fraction}")
        if subset_fraction is not None or subset_count is not None:
            check_subset(subset_fraction, subset_count)
        self.train_transform = train_transform
        self.evaluation_transform = evaluation_transform
        self.held_out_fraction = held_out_fraction
        self.subset_fraction = subset_fraction
        self.subset_count = subset_count
        self.subset_seed = subset_seed
        self.balanced = balanced
        self.allow_missing_classes = allow_missing_classes

    @property
    def sample_shapes(self) -> tuple[tuple[int, ...], tuple[int, ...]]:
        """Shapes of an image, (C, H, W), and of its scores, (number of classes,); reads no data."""
        size = self.evaluation_transform.size
        return (self.decoder.channels, size, size), (self.num_classes,)

    def make_dataset(self, split: str, *, train: bool = False, epoch: int = 0) -> ClassificationDataset:
        """Build the dataset of a split, see ``SplitDataModule``."""
        return ClassificationDataset(
            self.sources[split],
            decoder=self.decoder,
            transform=self.train_transform if train else self.evaluation_transform,
            size=self.evaluation_transform.size,
            seed=self.seed,
            train=train,
            epoch=epoch,
            cache_decoded=train and self.cache_decoded,
        )

    def select_train(self, source: Source) -> Source:
        """Return the training subset without the held-out images."""
        if self.subset_fraction is not None or self.subset_count is not None:
            source = per_class(source, fraction=self.subset_fraction, count=self.subset_count, seed=self.subset_seed)
        if self.held_out_fraction:
            source, self.sources["val"] = hold_out(source, fraction=self.held_out_fraction, seed=self.subset_seed)
        return source

    def check_split(self, split: str, source: Source) -> Source:
        """Return the source of a split; ValueError if classes are missing or have no image."""
        super().check_split(split, source)
        empty = np.flatnonzero(np.bincount(labels_of(source), minlength=self.num_classes) == 0)
        if len(empty) and (split == "train" or not self.allow_missing_classes):
            names = ", ".join(repr(source.classes[label]) for label in empty[:5])
            hint = "" if split == "train" else "; data.allow_missing_classes=true allows that"
            raise ValueError(
                f"split {self.split_names[split]!r} of {self.root!r} has no image of {len(empty)} of "
                f"{self.num_classes} classes: {names}{hint}"
            )
        return source

    def class_counts(self) -> NDArray[np.int64]:
        """Return the number of training images of each class, (number of classes,)."""
        return np.bincount(labels_of(self.sources["train"]), minlength=self.num_classes)

    def _sampler(self) -> ResumableSampler:
        if not self.balanced:
            return super()._sampler()
        return BalancedSampler(
            labels_of(self.source), seed=self.seed, rank=self._rank(), num_devices=self._world_size()
        )
