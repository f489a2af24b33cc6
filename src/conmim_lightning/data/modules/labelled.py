"""Labelled images for fine-tuning and for probes of frozen features."""

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch.utils.data import DataLoader

from conmim_lightning.data.balanced import BalancedSampler
from conmim_lightning.data.checks import at_least
from conmim_lightning.data.decode import Decoder
from conmim_lightning.data.folder import FolderSource
from conmim_lightning.data.labelled import LabelledImages
from conmim_lightning.data.loaders import evaluation_loader
from conmim_lightning.data.modules.parts import PartsDataModule
from conmim_lightning.data.parts import Parts
from conmim_lightning.data.sampler import Resumable, SampleKey
from conmim_lightning.data.sources import Source
from conmim_lightning.data.subsets import check_subset, held_out, labels_of, per_class
from conmim_lightning.data.transforms.classification import EvaluationTransform, TrainTransform


class LabelledDataModule(PartsDataModule):
    """Images with one class each, in parts.

    Validation uses a held-out part of the training images if ``held_out_share`` is above 0, else ``val``; the test uses
    ``test``.

    Args:
        root: where the collection lies.
        source: finds the parts, see ``data.parts``.
        num_classes: that there are.
        decoder: of the images' bytes.
        train_transform: of training images.
        evaluation_transform: of all others.
        mean: of the images, per channel, in units of the full range; the task normalises with it.
        std: likewise, > 0.
        batch_size: images a step and device.
        seed: of order and transforms.
        train: name of the training part.
        val: name of the validation part.
        test: name of the test part.
        held_out_share: of each class's training images, kept for validation; 0 to below 1.
        subset_share: share of each class's training images to use at all, drawn by ``subset_seed``; null for all.
        subset_count: training images of each class to use, likewise; null for all.
        subset_seed: of the draws of subset and held-out part.
        balanced: draw all classes equally often, whatever their size.
        allow_missing_classes: let validation and test lack some of the classes.
        exclude: list of training images to leave out, such as ``inspect`` writes; null for none.
        num_workers: loader processes; null takes one for each usable core, at most 16.
        evaluation_batch_size: images a batch where nothing is trained; null for batch_size.
        keep_decoded: keep decoded training images in memory, once a loader process; for collections that fit there.
        predict_root: folder of images without labels to predict; null for none.
        prepare: makes the files where they are missing, once a machine; null where they exist already.

    Raises:
        ValueError: a number is out of range, or, in ``setup``, a part is unfit.
    """

    def __init__(
        self,
        *,
        root: str,
        source: Parts,
        num_classes: int,
        decoder: Decoder,
        train_transform: TrainTransform,
        evaluation_transform: EvaluationTransform,
        mean: list[float],
        std: list[float],
        batch_size: int,
        seed: int,
        train: str = "train",
        val: str = "val",
        test: str = "val",
        held_out_share: float = 0.0,
        subset_share: float | None = None,
        subset_count: int | None = None,
        subset_seed: int = 0,
        balanced: bool = False,
        allow_missing_classes: bool = False,
        exclude: str | None = None,
        num_workers: int | None = None,
        evaluation_batch_size: int | None = None,
        keep_decoded: bool = False,
        predict_root: str | None = None,
        prepare: Callable[[], None] | None = None,
    ) -> None:
        super().__init__(
            root=root,
            decoder=decoder,
            mean=mean,
            std=std,
            batch_size=batch_size,
            evaluation_batch_size=evaluation_batch_size or batch_size,
            seed=seed,
            parts={"train": train, "val": val, "test": test},
            exclude=exclude,
            num_workers=num_workers,
            predict_root=predict_root,
            prepare=prepare,
        )
        at_least(2, num_classes=num_classes)
        if not 0 <= held_out_share < 1:
            raise ValueError(f"held_out_share must lie in [0, 1), got {held_out_share}")
        if subset_share is not None or subset_count is not None:
            check_subset(subset_share, subset_count)
        self.parts = source
        self.num_classes = num_classes
        self.transforms = {True: train_transform, False: evaluation_transform}
        self.held_out_share = held_out_share
        self.subset = {"share": subset_share, "count": subset_count, "seed": subset_seed}
        self.balanced = balanced
        self.allow_missing_classes = allow_missing_classes
        self.keep_decoded = keep_decoded

    @property
    def sample_shapes(self) -> tuple[tuple[int, ...], tuple[int, ...]]:
        """Shapes of an image, (C, H, W), and of its scores, (number of classes,); reads no data."""
        return (self.decoder.channels, *2 * [self.transforms[False].size]), (self.num_classes,)

    def setup(self, stage: str | None = None) -> None:
        """Find the files that a stage needs and decode a first image, so that unfit data ends the run at once.

        Args:
            stage: "fit", "validate", "test" or "predict"; None for all but "predict".
        """
        if stage == "predict":
            self.sources["predict"] = FolderSource(self.predict_root or self.root)
            return
        trains = stage in (None, "fit")
        if "train" not in self.sources and (trains or self.classes is None):
            self._find_training()
        for part in ("test",) if stage == "test" else ("val", "test"):
            if part not in self.sources:
                self.sources[part] = self._checked(part, self.parts(self.root, self.names[part], self.classes))
        if trains:
            self._check_fills()
            self.train_set = self._images("train", train=True, keep_decoded=self.keep_decoded)
            self.train_set[SampleKey(0, 0)]

    def find_source(self) -> Source:
        """The training images, without what is excluded; ValueError if classes are missing."""
        found = self.parts(self.root, self.names["train"], self.classes)
        return self._checked("train", found.without(self.excluded) if self.excluded else found)

    def class_counts(self) -> NDArray[np.int64]:
        """(number of classes,) training images of each class."""
        return np.bincount(labels_of(self.sources["train"]), minlength=self.num_classes)

    def evaluation(self, part: str, view: int | None = None) -> DataLoader[Any]:
        """Every image of a part once over all devices, in order.

        Args:
            part: "train", "val", "test" or "predict".
            view: None for the evaluation's transform, without randomness; a number for the training's, drawn for it.
        """
        return evaluation_loader(
            self._images(part, train=view is not None, epoch=view or 0),
            batch_size=self.evaluation_batch_size,
            num_workers=self.num_workers,
            rank=self._rank(),
            num_devices=self._world_size(),
        )

    def _find_training(self) -> None:
        source = self.find_source()
        if self.subset["share"] is not None or self.subset["count"] is not None:
            source = per_class(source, **self.subset)
        if self.held_out_share:
            source, self.sources["val"] = held_out(source, share=self.held_out_share, seed=self.subset["seed"])
        self.classes = list(source.classes)
        self.source = self.sources["train"] = source
        self.collection = source.fingerprint()

    def _checked(self, part: str, source: Source) -> Source:
        """Raise ValueError for another number of classes, or for classes without an image."""
        where = f"part {self.names[part]!r} of {self.root!r}"
        if len(source.classes) != self.num_classes:
            raise ValueError(f"{where} has {len(source.classes)} classes, but data.num_classes is {self.num_classes}")
        empty = np.flatnonzero(np.bincount(labels_of(source), minlength=self.num_classes) == 0)
        if len(empty) and (part == "train" or not self.allow_missing_classes):
            told = ", ".join(repr(source.classes[number]) for number in empty[:5])
            raise ValueError(
                f"{where} has no image of {len(empty)} of {self.num_classes} classes: {told}; "
                + ("" if part == "train" else "data.allow_missing_classes=true lets them be missing")
            )
        return source

    def _images(self, part: str, *, train: bool = False, epoch: int = 0, keep_decoded: bool = False) -> LabelledImages:
        return LabelledImages(
            self.sources[part],
            decoder=self.decoder,
            transform=self.transforms[train],
            size=self.transforms[False].size,
            seed=self.seed,
            train=train,
            epoch=epoch,
            keep_decoded=keep_decoded,
        )

    def _sampler(self) -> Resumable:
        if not self.balanced:
            return super()._sampler()
        labels = labels_of(self.source)
        return BalancedSampler(labels, seed=self.seed, rank=self._rank(), num_devices=self._world_size())
