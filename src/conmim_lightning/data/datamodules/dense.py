"""Images with class maps or objects, for segmentation and detection."""

from collections.abc import Callable, Sequence
from typing import Any, cast

import numpy as np
from lightning.pytorch.utilities import rank_zero_warn
from numpy.typing import NDArray
from torch import Tensor

from conmim_lightning.data.checks import check_at_least
from conmim_lightning.data.datamodules.splits import SplitDataModule
from conmim_lightning.data.datasets.base import ImageDataset
from conmim_lightning.data.datasets.coco_masks import coco_results
from conmim_lightning.data.inspection.class_counts import ClassCounts, annotation_faults, class_counts
from conmim_lightning.data.inspection.survey import AnnotationRecord
from conmim_lightning.data.samplers.epoch import SampleKey
from conmim_lightning.data.sources.base import Source, Subset, unwrapped
from conmim_lightning.data.sources.class_values import ClassValues
from conmim_lightning.data.sources.coco import CocoSource
from conmim_lightning.rng import generator


class DenseDataModule(SplitDataModule):
    """Images with an annotation of every pixel or object.

    Args:
        dataset: factory of a source's dataset, see ``SegmentationDataset`` and ``DetectionDataset``.
        size: pixels per side of the training images.
        num_classes: number of classes; null for the number that the source counts.
        evaluation_batch_size: images per batch outside of training.
        eval_limit: largest number of images to evaluate per split, evenly spaced; null for all.
        subset_count: number of training images to use, sampled with ``subset_seed``; null for all.
        subset_seed: seed of the subset.
        **others: see ``SplitDataModule``.

    Raises:
        ValueError: a number is out of range; in ``setup``, a split is invalid.
    """

    category_ids: Sequence[int] | None = None
    """COCO's category ids of the classes in training; None if they have none."""

    def __init__(
        self,
        *,
        dataset: Callable[..., ImageDataset[Any]],
        size: int,
        num_classes: int | None = None,
        evaluation_batch_size: int = 1,
        eval_limit: int | None = None,
        subset_count: int | None = None,
        subset_seed: int = 0,
        **others: Any,
    ) -> None:
        super().__init__(num_classes=num_classes, evaluation_batch_size=evaluation_batch_size, **others)
        check_at_least(1, size=size, subset_count=subset_count, eval_limit=eval_limit)
        self.dataset = dataset
        self.size = size
        self.eval_limit = eval_limit
        self.subset_count = subset_count
        self.subset_seed = subset_seed

    @property
    def sample_shapes(self) -> tuple[tuple[int, ...], tuple[int, ...]]:
        """Shapes of a training image, (C, S, S), and of a pixel's scores, (number of classes,); reads no data."""
        return (self.decoder.channels, self.size, self.size), (self.num_classes,)

    def encode_map(self, classes: NDArray[np.integer]) -> NDArray[Any]:
        """Return a predicted map (H, W) of classes with the values, or colours, of the collection's maps."""
        values: ClassValues = getattr(self.splits, "values", None) or ClassValues(self.num_classes)
        return values.encode(classes)

    def make_dataset(self, split: str, *, train: bool = False, epoch: int = 0) -> ImageDataset[Any]:
        """Build the dataset of a split, see ``SplitDataModule``."""
        return self.dataset(
            self.sources[split],
            decoder=self.decoder,
            seed=self.seed,
            train=train,
            epoch=epoch,
            cache_decoded=train and self.cache_decoded,
        )

    def select_train(self, source: Source) -> Source:
        """Return the training subset; also store the category ids."""
        count = self.subset_count
        if count is not None and count < len(source):
            rng = np.random.default_rng(int(generator(self.subset_seed, 0, 0).initial_seed()))
            source = Subset(source, np.sort(rng.permutation(len(source))[:count]).astype(np.int64))
        self.category_ids = getattr(unwrapped(source)[0], "category_ids", None)
        return source

    def pixels(self, split: str, index: int) -> Tensor:
        """Return an image of a split at its original size, (C, H, W) uint8."""
        return self.decoder.decode(self.sources[split].read(SampleKey(0, index), self.decoder.max_bytes))

    def coco_results(self, index: int, detections: Any, *, testing: bool) -> list[dict[str, Any]]:
        """Convert the detections in an image to entries of COCO's results JSON.

        Args:
            index: index of the image.
            detections: boxes, scores, labels and masks.
            testing: whether the image is of the test split; otherwise its name replaces its id.
        """
        if testing:
            source, indices = unwrapped(self.sources["test"])
            coco = cast(CocoSource, source)
            return coco_results(coco.image_ids[int(indices[index])], detections, coco.category_ids)
        assert self.classes is not None
        category_ids = list(self.category_ids or range(1, self.num_classes + 1))
        entries = coco_results(self.sources["predict"].name(index), detections, category_ids)
        return [entry | {"category": self.classes[category_ids.index(entry["category_id"])]} for entry in entries]

    def count_annotated(self) -> str:
        """Return how many objects, or pixels of a sample of images, of each class are trained on.

        Raises:
            ValueError: there are none.
        """
        counts, names = self._counts("train"), self.sources["train"].classes
        values: ClassValues | None = getattr(self.splits, "values", None)
        if values and (mistake := values.binary_mistake(counts.counts, counts.ignored)):
            if values.ignores_by_default:
                raise ValueError(f"{mistake}; data.source.ignored=[255] if it is meant")
            rank_zero_warn(mistake)
        if missing := counts.missing(names, self.root):
            rank_zero_warn(missing)
        self._warn_of_empty_splits()
        return counts.summary(names, self.root)

    def _counts(self, split: str) -> ClassCounts:
        return class_counts(self.sources[split], self.decoder, self.num_classes)

    def _warn_of_empty_splits(self) -> None:
        """Warn of splits for evaluation without any object, or pixel, of a class."""
        sources = {id(self.sources[split]): split for split in ("test", "val") if split in self.sources}
        for split in sources.values():
            counts = self._counts(split)
            if not counts.counts.any():
                rank_zero_warn(f"{split}: there are no {counts.unit} of any class, so that its metrics say nothing")

    def annotation_check(self, source: Source, index: int, height: int, width: int) -> AnnotationRecord:
        """Return the fault and the counts of the annotation of an image of this size."""
        fault = "; ".join(annotation_faults(source).get(source.name(index), ()))
        try:
            return AnnotationRecord(fault, self.dataset(source, decoder=self.decoder).check(index, height, width))
        except Exception as error:  # damaged files raise anything
            return AnnotationRecord(fault or str(error))
