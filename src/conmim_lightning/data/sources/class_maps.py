"""Images with one class map each: ADE20K's layout, and others with a folder of images and a folder of maps."""

from collections.abc import Collection, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from conmim_lightning.data.checks import check_at_least
from conmim_lightning.data.images.files import BrokenImageError
from conmim_lightning.data.images.formats import DEFAULT_FORMATS
from conmim_lightning.data.samplers.epoch import SampleKey
from conmim_lightning.data.sources.base import IndexedSource
from conmim_lightning.data.sources.class_names import read_class_names
from conmim_lightning.data.sources.class_values import ClassValues, Colors, Ignored, Values
from conmim_lightning.data.sources.image_map_pairs import ImageMapPairs, OnFault


class SegmentationSource(IndexedSource):
    """Images and their class maps.

    Args:
        pairs: files of the images and class maps.
        classes: names of the K classes.
        values: values of the classes in a map.
        drop_invalid: treat images with an invalid map as broken: they are replaced and listed.
    """

    def __init__(
        self, pairs: ImageMapPairs, classes: Sequence[str], values: ClassValues, *, drop_invalid: bool = False
    ) -> None:
        self.pairs = pairs
        self.root = pairs.images.root
        self.notes = pairs.images.notes
        self.classes = list(classes)
        self.values = values
        self.drop_invalid = drop_invalid

    def __len__(self) -> int:
        """Number of pairs."""
        return len(self.pairs)

    def name(self, index: int) -> str:
        """Path of an image, relative to the images' folder."""
        return self.pairs.images.name(index)

    def read(self, key: SampleKey, max_bytes: int | None = None) -> bytes:
        """Read an image file."""
        return self.pairs.images.read(key, max_bytes)

    def fingerprint(self) -> str:
        """Return a digest of all image names."""
        return self.pairs.images.fingerprint()

    def annotation(self, index: int, height: int, width: int) -> Tensor:
        """Return the class of each pixel of an image: (H, W) int16 from 0, -1 for no class.

        Raises:
            BrokenImageError: the map cannot be read, or it is invalid and ``drop_invalid`` is set.
            ValueError: its size is not the image's, it is not a class map, or it has values that are not classes.
        """
        try:
            return self._label(index, height, width)
        except ValueError as error:
            if self.drop_invalid:
                raise BrokenImageError(str(error)) from error
            raise

    def _label(self, index: int, height: int, width: int) -> Tensor:
        path = self.pairs.map_path(index)
        label = self.values.classes(path)
        if label.shape != (height, width):
            raise ValueError(
                f"class map {str(path)!r} is {label.shape[1]} x {label.shape[0]} pixels, its image "
                f"{self.name(index)!r} {width} x {height} (data.decoder.upright=false ignores EXIF orientations)"
            )
        return torch.from_numpy(label)


class SegmentationSplits:
    """Splits of ``root/images/<split>/x.jpg`` with ``root/annotations/<split>/x.png``, or of other templates.

    Args:
        num_classes: number of classes K.
        images: see ``ImageMapPairs``.
        maps: see ``ImageMapPairs``.
        suffix: see ``ImageMapPairs``.
        image_suffix: see ``ImageMapPairs``.
        missing: see ``ImageMapPairs``.
        on_invalid: treatment of maps of another size or with unknown values: "error" raises, "drop" treats their images
            as broken.
        classes_file: file of class names, relative to root or absolute: one per line, or ADE20K's objectInfo150.txt;
            null uses numbers as names.
        class_names: class names, as an alternative to a file; null for none.
        first_class: value of the first class in a map (1 in ADE20K); see ``ClassValues``, as for the next three.
        values: value by class name.
        colors: colour by class name.
        ignored: values of pixels without a class (0 in ADE20K).
        index_dir: folder to store the indexes of scans in; null does not store them.
        formats: see ``FolderSource``.
        include_hidden: see ``FolderSource``.

    Raises:
        ValueError: an argument is out of its range, or two of them contradict each other.
    """

    def __init__(
        self,
        *,
        num_classes: int,
        images: str = "images/{split}",
        maps: str = "annotations/{split}",
        suffix: str = ".png",
        image_suffix: str = "",
        missing: OnFault = "error",
        on_invalid: OnFault = "error",
        classes_file: str | None = None,
        class_names: Sequence[str] | None = None,
        first_class: int = 1,
        values: Values = None,
        colors: Colors = None,
        ignored: Ignored = (0,),
        index_dir: str | None = None,
        formats: Sequence[str] = DEFAULT_FORMATS,
        include_hidden: bool = False,
    ) -> None:
        check_at_least(2, num_classes=num_classes)
        for name, choice in (("missing", missing), ("on_invalid", on_invalid)):
            if choice not in ("error", "drop"):
                raise ValueError(f"data.source.{name} must be error or drop, got {choice!r}")
        self.values = ClassValues(num_classes, first_class=first_class, values=values, colors=colors, ignored=ignored)
        if class_names is None:
            class_names = self.values.names
        if class_names is not None and len(class_names) != num_classes:
            raise ValueError(f"class_names has {len(class_names)} names, but data.num_classes is {num_classes}")
        self.num_classes = num_classes
        self.classes_file = classes_file
        self.class_names = class_names
        self.on_invalid = on_invalid
        self.excluded: Collection[str] = ()
        self.report_faults = False
        self.layout: dict[str, Any] = {
            "images": images,
            "maps": maps,
            "suffix": suffix,
            "image_suffix": image_suffix,
            "missing": missing,
            "index_dir": index_dir,
            "formats": tuple(formats),
            "include_hidden": include_hidden,
        }

    def __call__(self, root: str, split: str, classes: Sequence[str] | None) -> SegmentationSource:
        """Open a split; ValueError if it is missing or the number of class names is not K."""
        names = self.names(root)
        if len(names) != self.num_classes:
            raise ValueError(
                f"{str(Path(root, self.classes_file or ''))!r} names {len(names)} classes, but data.num_classes is "
                f"{self.num_classes}"
            )
        if classes is not None and list(classes) != names:
            other = [f"{a!r} instead of {b!r}" for a, b in zip(names, classes, strict=False) if a != b]
            raise ValueError(f"split {split!r} of {root!r} has other classes than were trained: {', '.join(other[:5])}")
        layout: dict[str, Any] = self.layout | ({"missing": "keep"} if self.report_faults else {})
        pairs = ImageMapPairs(root, split, excluded=self.excluded, **layout)
        return SegmentationSource(pairs, names, self.values, drop_invalid=self.on_invalid == "drop")

    def count_classes(self, root: str, split: str) -> int:
        """Number of classes K."""
        return self.num_classes

    def names(self, root: str) -> list[str]:
        """Names of the classes, or their numbers from 1."""
        if self.class_names is not None:
            return [str(name) for name in self.class_names]
        if self.classes_file:
            return read_class_names(Path(root) / self.classes_file)
        return [str(number + 1) for number in range(self.num_classes)]


class ADE20KSplits(SegmentationSplits):
    """ADE20K's splits, with class names from objectInfo150.txt if it exists; the benchmark's own archive has it."""

    def names(self, root: str) -> list[str]:
        """Names of the classes, or their numbers from 1."""
        info = Path(root, "objectInfo150.txt")
        is_given = self.classes_file or self.class_names
        return read_class_names(info) if not is_given and info.is_file() else super().names(root)
