"""Images with class maps or objects, for segmentation and detection."""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from torch import Tensor
from torch.utils.data import DataLoader

from conmim_lightning.data.annotated import AnnotatedImages
from conmim_lightning.data.checks import at_least
from conmim_lightning.data.decode import Decoder
from conmim_lightning.data.folder import FolderSource
from conmim_lightning.data.loaders import evaluation_loader
from conmim_lightning.data.modules.parts import PartsDataModule
from conmim_lightning.data.outlines import results
from conmim_lightning.data.sampler import SampleKey
from conmim_lightning.data.sources import Source, Subset
from conmim_lightning.randomness import generator


class DenseDataModule(PartsDataModule):
    """Images of which every place is annotated, in parts.

    Args:
        root: where the collection lies.
        source: finds the parts, see ``SegmentationParts`` and ``CocoParts``.
        images: makes samples and batches of a part, see ``SegmentedImages`` and ``DetectedImages``.
        num_classes: that there are.
        size: pixels a side of what is trained on.
        decoder: of the images' bytes.
        mean: of the images, per channel, in units of the full range; the task normalises with it.
        std: likewise, > 0.
        batch_size: images a step and device.
        seed: of order and transforms.
        train: name of the training part.
        val: name of the validation part.
        test: name of the test part.
        subset_count: training images to use, drawn by ``subset_seed``; null for all.
        subset_seed: of that draw.
        exclude: list of training images to leave out, such as ``inspect`` writes; null for none.
        num_workers: loader processes; null takes one for each usable core, at most 16.
        evaluation_batch_size: images a batch where nothing is trained.
        evaluation_count: images of each part to evaluate at most, evenly spaced; null for all.
        keep_decoded: keep decoded training images in memory, once a loader process; for collections that fit there.
        predict_root: folder of images without annotations to predict; null for none.
        prepare: makes the files where they are missing, once a machine; null where they exist already.

    Raises:
        ValueError: a number is out of range, or, in ``setup``, a part is unfit.
    """

    def __init__(
        self,
        *,
        root: str,
        source: Callable[[str, str, Sequence[str] | None], Source],
        images: Callable[..., AnnotatedImages[Any]],
        num_classes: int,
        size: int,
        decoder: Decoder,
        mean: list[float],
        std: list[float],
        batch_size: int,
        seed: int,
        train: str = "train",
        val: str = "val",
        test: str = "val",
        subset_count: int | None = None,
        subset_seed: int = 0,
        exclude: str | None = None,
        num_workers: int | None = None,
        evaluation_batch_size: int = 1,
        evaluation_count: int | None = None,
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
            evaluation_batch_size=evaluation_batch_size,
            seed=seed,
            parts={"train": train, "val": val, "test": test},
            exclude=exclude,
            num_workers=num_workers,
            predict_root=predict_root,
            prepare=prepare,
        )
        counts = {"subset_count": subset_count, "evaluation_count": evaluation_count}
        at_least(1, num_classes=num_classes, size=size, **counts)
        self.parts = source
        self.images = images
        self.num_classes = num_classes
        self.size = size
        self.subset = (subset_count, subset_seed)
        self.evaluation_count = evaluation_count
        self.keep_decoded = keep_decoded

    category_ids: Sequence[int] | None = None
    """Numbers of the categories that were trained, where they have any."""

    @property
    def sample_shapes(self) -> tuple[tuple[int, ...], tuple[int, ...]]:
        """Shapes of an image to train on, (C, S, S), and of a pixel's scores, (number of classes,); reads no data."""
        return (self.decoder.channels, self.size, self.size), (self.num_classes,)

    def setup(self, stage: str | None = None) -> None:
        """Find the files that a stage needs and read a first sample, so that unfit data ends the run at once.

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
            self.train_set = self._samples("train", train=True)
            self.train_set[SampleKey(0, 0)]
            self._samples("val")[0]

    def find_source(self) -> Source:
        """The training images, without what is excluded."""
        found = self._checked("train", self.parts(self.root, self.names["train"], self.classes))
        return found.without(self.excluded) if self.excluded else found

    def pixels(self, part: str, index: int) -> Tensor:
        """An image of a part as its file has it, (C, H, W) uint8."""
        return self.decoder.decode(self.sources[part].read(SampleKey(0, index), self.decoder.max_bytes))

    @property
    def first_class(self) -> int:
        """Value of the first class in the collection's maps."""
        return getattr(self.parts, "values", {}).get("first_class", 0)

    def results_of(self, index: int, found: Any, *, testing: bool) -> list[dict[str, Any]]:
        """What was found in an image as entries of COCO's JSON of results.

        Args:
            index: number of the image.
            found: boxes, scores, labels, masks of its objects.
            testing: whether the image is of the test part; else its name stands for its number.
        """
        if testing:
            source: Any = self.sources["test"]
            return results(int(source.image_ids[index]), found, source.category_ids)
        assert self.classes is not None
        numbers = list(self.category_ids or range(1, self.num_classes + 1))
        entries = results(self.sources["predict"].name(index), found, numbers)
        return [entry | {"category": self.classes[numbers.index(entry["category_id"])]} for entry in entries]

    def annotation_faults(self, source: Source, index: int, height: int, width: int) -> str:
        """What is wrong with an image's annotation; empty if nothing is."""
        try:
            self.images(source, decoder=self.decoder).check(index, height, width)
        except Exception as error:  # of a map that cannot be read, too
            return str(error)
        return ""

    def evaluation(self, part: str) -> DataLoader[Any]:
        """Every image of a part once over all devices, in order, or so many as are to be evaluated."""
        samples = self._samples(part)
        return evaluation_loader(
            samples,
            batch_size=self.evaluation_batch_size,
            num_workers=self.num_workers,
            rank=self._rank(),
            num_devices=self._world_size(),
            limit=self.evaluation_count,
            collate=samples.collate,
        )

    def _find_training(self) -> None:
        source, (count, seed) = self.find_source(), self.subset
        if count is not None and count < len(source):
            drawn = np.random.default_rng(int(generator(seed, 0, 0).initial_seed())).permutation(len(source))[:count]
            source = Subset(source, np.sort(drawn).astype(np.int64))
        self.classes = list(source.classes)
        self.source = self.sources["train"] = source
        self.collection = source.fingerprint()
        while isinstance(source, Subset):
            source = source.source
        self.category_ids = getattr(source, "category_ids", None)

    def _checked(self, part: str, source: Source) -> Source:
        """Raise ValueError for another number of classes."""
        if len(source.classes) != self.num_classes:
            raise ValueError(
                f"part {self.names[part]!r} of {self.root!r} has {len(source.classes)} classes, but data.num_classes "
                f"is {self.num_classes}"
            )
        return source

    def _samples(self, part: str, *, train: bool = False) -> AnnotatedImages[Any]:
        kept = train and self.keep_decoded
        return self.images(self.sources[part], decoder=self.decoder, seed=self.seed, train=train, keep_decoded=kept)
