"""Images with one class map each: ADE20K's layout, and others with a folder of images and a folder of maps."""

import os
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from conmim_lightning.data.checks import check_at_least
from conmim_lightning.data.images.files import BrokenImageError
from conmim_lightning.data.samplers.epoch import SampleKey
from conmim_lightning.data.sources.base import IndexedSource
from conmim_lightning.data.sources.folder import FolderSource

_MODES = ("1", "L", "P", "I", "I;16", "I;16B", "I;16L")
_SHOWN = 5


class ImageMapPairs:
    """Pairs ``images/<split>/x.jpg`` and ``annotations/<split>/x.png``.

    Args:
        root: folder that contains both.
        split: "training" or "validation", or another name used in both.
        images: folder of the images below root, with "{split}" for the split.
        maps: folder of the class maps below root, with "{split}" for the split.
        suffix: end of a map's name, after the image's stem.
        index_dir: folder to store the index of the images in; null does not store it.

    Raises:
        ValueError: a folder is missing or empty, or an image has no class map.
    """

    def __init__(
        self,
        root: str | os.PathLike[str],
        split: str,
        *,
        images: str = "images/{split}",
        maps: str = "annotations/{split}",
        suffix: str = ".png",
        index_dir: str | None = None,
    ) -> None:
        self.images = FolderSource(Path(root) / images.format(split=split), index_dir=index_dir)
        self.annotations = Path(root) / maps.format(split=split)
        self.suffix = suffix
        missing = [index for index in range(len(self.images)) if not self.map_path(index).is_file()]
        if missing:
            raise ValueError(
                f"{len(missing)} of {len(self.images)} images below {self.images.root!r} have no class map, the "
                f"first is {self.images.name(missing[0])!r}; expected {str(self.map_path(missing[0]))!r}"
            )

    def __len__(self) -> int:
        """Number of pairs."""
        return len(self.images)

    def map_path(self, index: int) -> Path:
        """Path of an image's class map."""
        name = Path(self.images.name(index))
        return self.annotations / name.with_name(f"{name.stem}{self.suffix}")


class SegmentationSource(IndexedSource):
    """Images and their class maps.

    Args:
        pairs: files of the images and class maps.
        classes: names of the K classes.
        first_class: value of the first class in a map; the others follow.
        ignored: values of pixels without a class.

    Raises:
        ValueError: an ignored value is also the value of a class.
    """

    def __init__(
        self, pairs: ImageMapPairs, classes: Sequence[str], *, first_class: int, ignored: Sequence[int]
    ) -> None:
        self.pairs = pairs
        self.root = pairs.images.root
        self.notes = pairs.images.notes
        self.classes = list(classes)
        self.first_class = first_class
        self.ignored = list(ignored)
        if taken := [value for value in ignored if 0 <= value - first_class < len(classes)]:
            raise ValueError(f"ignored={list(ignored)} holds {taken}, which are values of classes from {first_class}")

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
            BrokenImageError: the map cannot be read.
            ValueError: its size is not the image's, it is not a class map, or it has values that are not classes.
        """
        path = self.pairs.map_path(index)
        values = _read_values(path)
        if values.shape != (height, width):
            raise ValueError(
                f"class map {str(path)!r} is {values.shape[1]} x {values.shape[0]} pixels, its image "
                f"{self.name(index)!r} {width} x {height} (data.decoder.upright=false ignores EXIF orientations)"
            )
        label = values.astype(np.int32) - self.first_class
        ignored = np.isin(values, self.ignored)
        label[ignored] = -1
        if (unknown := (label >= len(self.classes)) | ((label < 0) & ~ignored)).any():
            listed = ", ".join(map(str, np.unique(values[unknown])[:_SHOWN]))
            raise ValueError(
                f"class map {str(path)!r} has values that are not classes: {listed}; classes have {self.first_class} "
                f"to {self.first_class + len(self.classes) - 1}, ignored are {self.ignored} (data.source.ignored)"
            )
        return torch.from_numpy(label.astype(np.int16))


class SegmentationSplits:
    """Splits of ``root/images/<split>/x.jpg`` with ``root/annotations/<split>/x.png``, or of other templates.

    Args:
        num_classes: number of classes K.
        images: see ``ImageMapPairs``.
        maps: see ``ImageMapPairs``.
        suffix: see ``ImageMapPairs``.
        classes_file: file of class names, relative to root or absolute: one per line, or ADE20K's objectInfo150.txt;
            null uses numbers as names.
        class_names: class names, as an alternative to a file; null for none.
        first_class: value of the first class in a map (1 in ADE20K).
        ignored: values of pixels without a class (0 in ADE20K).
        index_dir: folder to store the indexes of scans in; null does not store them.
    """

    def __init__(
        self,
        *,
        num_classes: int,
        images: str = "images/{split}",
        maps: str = "annotations/{split}",
        suffix: str = ".png",
        classes_file: str | None = None,
        class_names: Sequence[str] | None = None,
        first_class: int = 1,
        ignored: Sequence[int] = (0,),
        index_dir: str | None = None,
    ) -> None:
        check_at_least(2, num_classes=num_classes)
        if class_names is not None and len(class_names) != num_classes:
            raise ValueError(f"class_names has {len(class_names)} names, but data.num_classes is {num_classes}")
        self.num_classes = num_classes
        self.classes_file = classes_file
        self.class_names = class_names
        self.first_class = first_class
        self.ignored = list(ignored)
        self.layout = {"images": images, "maps": maps, "suffix": suffix}
        self.index_dir = index_dir

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
        pairs = ImageMapPairs(root, split, **self.layout, index_dir=self.index_dir)
        return SegmentationSource(pairs, names, first_class=self.first_class, ignored=self.ignored)

    def count_classes(self, root: str, split: str) -> int:
        """Number of classes K."""
        return self.num_classes

    def names(self, root: str) -> list[str]:
        """Names of the classes, or their numbers from 1."""
        if self.class_names is not None:
            return [str(name) for name in self.class_names]
        if self.classes_file:
            return _read_class_names(Path(root) / self.classes_file)
        return [str(number + 1) for number in range(self.num_classes)]


class ADE20KSplits(SegmentationSplits):
    """ADE20K's splits, with class names from objectInfo150.txt if it exists; the benchmark's own archive has it."""

    def names(self, root: str) -> list[str]:
        """Names of the classes, or their numbers from 1."""
        info = Path(root, "objectInfo150.txt")
        is_given = self.classes_file or self.class_names
        return _read_class_names(info) if not is_given and info.is_file() else super().names(root)


def _read_values(path: Path) -> NDArray[np.integer]:
    """Read a class map, (H, W) integers."""
    try:
        with Image.open(path, formats=("PNG", "BMP", "TIFF", "GIF")) as opened:
            mode = opened.mode
            values = np.asarray(opened)
    except Exception as error:  # damaged bytes make Pillow raise anything
        raise BrokenImageError(f"class map {str(path)!r}: {type(error).__name__}: {error}") from error
    if mode not in _MODES:
        raise ValueError(f"class map {str(path)!r} has the pixel mode {mode}; one integer per pixel is needed")
    return values


def _read_class_names(path: Path) -> list[str]:
    """Read one name per line, or the last column of a table with tabs, without its header."""
    try:
        lines = [line.strip() for line in path.read_text("utf-8").splitlines() if line.strip()]
    except (OSError, UnicodeDecodeError) as error:
        raise ValueError(f"class file {str(path)!r} cannot be read: {error}") from error
    if lines and "\t" in lines[0]:
        lines = [line.split("\t")[-1].split(",")[0].strip() for line in lines[1:]]
    if repeated := sorted({name for name in lines if lines.count(name) > 1}):
        lines = [f"{name} {number}" if name in repeated else name for number, name in enumerate(lines, 1)]
    return lines
