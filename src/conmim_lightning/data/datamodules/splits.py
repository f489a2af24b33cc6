"""Base class of the data modules with annotated images in splits."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from lightning.pytorch.utilities import rank_zero_info
from torch.utils.data import DataLoader

from conmim_lightning.data.checks import check_at_least
from conmim_lightning.data.datamodules.base import ResumableDataModule
from conmim_lightning.data.datasets.base import ImageDataset
from conmim_lightning.data.images.decode import Decoder
from conmim_lightning.data.images.files import check_exists
from conmim_lightning.data.inspection.summary import summarize
from conmim_lightning.data.loaders import evaluation_loader
from conmim_lightning.data.samplers.epoch import SampleKey
from conmim_lightning.data.sources.base import Source
from conmim_lightning.data.sources.name_list import read_names
from conmim_lightning.data.sources.paths import Images, check_images, open_images
from conmim_lightning.data.sources.splits import Splits

_SPLITS = ("train", "val", "test")


class SplitDataModule(ResumableDataModule):
    """Annotated images in splits for training, validation and test; a subclass implements ``make_dataset``.

    Args:
        root: path of the collection.
        source: object that opens the splits, see ``data.sources.splits.Splits``.
        num_classes: number of classes; null for the number that the source counts.
        decoder: decoder of the image bytes.
        mean: mean of the images per channel, on a scale of 0 to 1; the task normalises with it.
        std: standard deviation per channel, on the same scale, > 0.
        batch_size: images per step and device.
        seed: seed of order and transforms.
        train: name of the training split.
        val: name of the validation split.
        test: name of the test split; null for that of validation.
        exclude: file that lists images to leave out, as ``inspect`` writes it, for all splits; or a file by split
            ("train", "val", "test"); null for none.
        num_workers: number of loader processes; null for one per usable core, at most 16.
        evaluation_batch_size: images per batch outside of training; null for batch_size.
        cache_decoded: keep decoded training images in memory, per loader process; for small collections.
        predict_root: images without annotations to predict, see ``open_images``; null for ``root``.
        prepare: function that creates missing files, once per machine; null if they exist.

    Raises:
        ValueError: a number is out of range or a folder is missing; in ``setup``, a split is invalid.
    """

    annotated: str = ""
    """Number of annotated objects, or pixels, of each class, for the summary."""

    eval_limit: int | None = None
    """Largest number of images to evaluate per split; null for all."""

    def __init__(
        self,
        *,
        root: str,
        source: Splits,
        num_classes: int | None,
        decoder: Decoder,
        mean: Sequence[float],
        std: Sequence[float],
        batch_size: int,
        seed: int = 0,
        train: str = "train",
        val: str = "val",
        test: str | None = None,
        exclude: str | Mapping[str, str | None] | None = None,
        num_workers: int | None = None,
        evaluation_batch_size: int | None = None,
        cache_decoded: bool = False,
        predict_root: Images | None = None,
        prepare: Callable[[], None] | None = None,
    ) -> None:
        super().__init__(
            root=root, decoder=decoder, mean=mean, std=std, batch_size=batch_size, seed=seed, num_workers=num_workers
        )
        check_at_least(1, batch_size=batch_size, evaluation_batch_size=evaluation_batch_size, num_classes=num_classes)
        if predict_root is not None:
            check_images(predict_root)
        elif prepare is None:
            check_exists(root)
        self.evaluation_batch_size = evaluation_batch_size or batch_size
        self.split_names = {"train": train, "val": val, "test": val if test is None else test}
        self.splits = source
        self.num_classes = source.count_classes(root, train) if num_classes is None else num_classes
        self.excluded = _excluded(exclude)
        self.cache_decoded = cache_decoded
        self.predict_root = predict_root
        self.prepare = prepare
        self.classes: Sequence[str] | None = None
        self.sources: dict[str, Source] = {}

    def make_dataset(self, split: str, *, train: bool = False, epoch: int = 0) -> ImageDataset[Any]:
        """Build the dataset of a split.

        Args:
            split: "train", "val", "test" or "predict".
            train: whether to apply the training transform.
            epoch: epoch of the training transform.
        """
        raise NotImplementedError

    def prepare_data(self) -> None:
        """Create missing files, if ``prepare`` is given."""
        if self.prepare and not self.predict_root:
            self.prepare()

    def setup(self, stage: str | None = None) -> None:
        """Open the splits that a stage needs and read first samples, so that invalid data ends the run early.

        Args:
            stage: "fit", "validate", "test" or "predict"; None for all but "predict".
        """
        if stage == "predict":
            self.sources["predict"] = open_images(self.predict_root or self.root, self.decoder.formats)
            return
        fits = stage in (None, "fit")
        if "train" not in self.sources and (fits or self.classes is None):
            source = self.select_train(self.open_source())
            self.classes = list(source.classes)
            self.source = self.sources["train"] = source
            self.fingerprint = source.fingerprint()
        self._open_evaluation(("test",) if stage == "test" else ("val", "test"))
        if fits:
            self._check_fills()
            self.annotated = self.annotated or self.count_annotated()  # once, as setup may be called twice
            self.train_set = self.make_dataset("train", train=True)
            self.train_set[SampleKey(0, 0)]
            self.make_dataset("val")[0]

    def open_source(self) -> Source:
        """Open the training split without the excluded images; ValueError if it is invalid."""
        return self.check_split("train", self._open("train"))

    def report_faults(self) -> None:
        """Let sources list invalid annotations instead of raising, for ``inspect``."""
        self.splits.report_faults = True  # type: ignore[attr-defined]

    def count_annotated(self) -> str:
        """Return how many objects, or pixels, of each class are trained on; ValueError if there are none."""
        return ""

    def select_train(self, source: Source) -> Source:
        """Select the images to train on from the training split."""
        return source

    def check_split(self, split: str, source: Source) -> Source:
        """Return the source of a split; ValueError if its number of classes is not ``num_classes``."""
        if len(source.classes) != self.num_classes:
            raise ValueError(
                f"split {self.split_names[split]!r} of {self.root!r} has {len(source.classes)} classes, but "
                f"data.num_classes is {self.num_classes}"
            )
        return source

    def summary(self) -> str:
        """Summarise the splits: number of images, formats, sizes, broken images."""
        sizes = [f"{split}: {len(self.sources[split]):,} images" for split in ("val", "test") if split in self.sources]
        annotated = [self.annotated] if self.annotated else []
        notes = [f"{split}: {note}" for split in ("val", "test") for note in self._notes(split)]
        return "\n  ".join([summarize(self.sources["train"], self.decoder), *annotated, *sizes, *notes])

    def image_name(self, split: str, index: int) -> str:
        """Name of an image of a split."""
        return self.sources[split].name(index)

    def val_dataloader(self) -> DataLoader[Any]:
        """Return the loader of the validation images."""
        return self.evaluation_dataloader("val")

    def test_dataloader(self) -> DataLoader[Any]:
        """Return the loader of the test images."""
        return self.evaluation_dataloader("test")

    def predict_dataloader(self) -> DataLoader[Any]:
        """Return the loader of the images of ``predict_root``."""
        return self.evaluation_dataloader("predict")

    def evaluation_dataloader(self, split: str, view: int | None = None) -> DataLoader[Any]:
        """Return a loader of a split in order, each image on one device only; at most ``eval_limit`` images.

        Args:
            split: "train", "val", "test" or "predict".
            view: None for the evaluation transform; a number for the training transform, sampled for that epoch.
        """
        self._check_trainer()
        return evaluation_loader(
            self.make_dataset(split, train=view is not None, epoch=view or 0),
            batch_size=self.evaluation_batch_size,
            num_workers=self.num_workers,
            rank=self._rank(),
            num_devices=self._world_size(),
            limit=self.eval_limit,
        )

    def _open_evaluation(self, splits: Sequence[str]) -> None:
        """Open the splits that are not open yet; test and validation may be one, which is read once."""
        opened: dict[str, Source] = {}
        for split in splits:
            if split in self.sources:
                continue  # such as held-out training images
            name = self.split_names[split]
            same = opened.get(name) if self.excluded["val"] == self.excluded["test"] else None
            self.sources[split] = opened[name] = same or self.check_split(split, self._open(split))

    def _notes(self, split: str) -> Sequence[str]:
        same = split == "test" and self.split_names["test"] == self.split_names["val"]
        return () if same or split not in self.sources else self.sources[split].notes

    def _open(self, split: str) -> Source:
        """Open a split without its excluded images."""
        excluded = self.excluded[split]
        self.splits.excluded = excluded  # type: ignore[attr-defined]
        source = self.splits(self.root, self.split_names[split], self.classes)
        if excluded and split != "train":  # a list for all splits has names of others
            excluded = excluded & {source.name(index) for index in range(len(source))}
            if excluded:
                rank_zero_info(f"{split}: {len(excluded)} images are excluded (data.exclude)")
        return source.without(excluded) if excluded else source


def _excluded(exclude: str | Mapping[str, str | None] | None) -> dict[str, set[str]]:
    """Return the names to leave out by split."""
    files = dict.fromkeys(_SPLITS, exclude) if exclude is None or isinstance(exclude, str) else dict(exclude)
    if unknown := set(files) - set(_SPLITS):
        raise ValueError(f"data.exclude is a file, or a file by split: {', '.join(_SPLITS)}; got {sorted(unknown)}")
    return {split: read_names(file) if (file := files.get(split)) else set() for split in _SPLITS}
