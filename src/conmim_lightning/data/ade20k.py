"""Images with a class map each: ADE20K's layout, and any other with a folder for each."""

import os
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from conmim_lightning.data.checks import at_least
from conmim_lightning.data.files import BrokenImageError
from conmim_lightning.data.folder import FolderSource
from conmim_lightning.data.sampler import SampleKey
from conmim_lightning.data.sources import Numbered

_MODES = ("1", "L", "P", "I", "I;16", "I;16B", "I;16L")
_SHOWN = 5


class PairSource:
    """Pairs ``images/<part>/x.jpg`` and ``annotations/<part>/x.png``; 0 in a map is background or unlabelled.

    Args:
        root: the folder that holds both.
        part: "training" or "validation", or another name used in both.
        images: folder of the images below root, with "{part}" for the part.
        maps: folder of the class maps, likewise.
        suffix: what a map's name has behind the image's stem.
        index_dir: where to keep what the scan of the images found; null for nowhere.

    Raises:
        ValueError: a folder is missing or empty, or an image has no class map.
    """

    def __init__(
        self,
        root: str | os.PathLike[str],
        part: str,
        *,
        images: str = "images/{part}",
        maps: str = "annotations/{part}",
        suffix: str = ".png",
        index_dir: str | None = None,
    ) -> None:
        self.images = FolderSource(Path(root) / images.format(part=part), index_dir=index_dir)
        self.annotations = Path(root) / maps.format(part=part)
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
        """Class map file of an image."""
        name = Path(self.images.name(index))
        return self.annotations / name.with_name(f"{name.stem}{self.suffix}")


class SegmentedSource(Numbered):
    """Images and their class maps.

    Args:
        pairs: files of both.
        classes: names of the K classes.
        first_class: value of the first class in a map; the others follow it.
        ignored: values that mean no class.

    Raises:
        ValueError: an ignored value is that of a class.
    """

    def __init__(self, pairs: PairSource, classes: Sequence[str], *, first_class: int, ignored: Sequence[int]) -> None:
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
        """An image file's content."""
        return self.pairs.images.read(key, max_bytes)

    def fingerprint(self) -> str:
        """From all names."""
        return self.pairs.images.fingerprint()

    def annotation(self, index: int, height: int, width: int) -> Tensor:
        """The class of each pixel of an image: (H, W) int16 from 0, -1 for none.

        Raises:
            BrokenImageError: the map cannot be read.
            ValueError: its size is not the image's, it is no map, or it has values that are no classes.
        """
        path = self.pairs.map_path(index)
        values = _values(path)
        if values.shape != (height, width):
            raise ValueError(
                f"class map {str(path)!r} is {values.shape[1]} x {values.shape[0]} pixels, its image "
                f"{self.name(index)!r} {width} x {height} (data.decoder.upright=false leaves EXIF turns out)"
            )
        found = values.astype(np.int32) - self.first_class
        found[np.isin(values, self.ignored)] = -1
        if (unknown := (found >= len(self.classes)) | ((found < 0) & ~np.isin(values, self.ignored))).any():
            told = ", ".join(map(str, np.unique(values[unknown])[:_SHOWN]))
            raise ValueError(
                f"class map {str(path)!r} has values that are no classes: {told}; classes have {self.first_class} to "
                f"{self.first_class + len(self.classes) - 1}, and {self.ignored} mean none (data.source.ignored)"
            )
        return torch.from_numpy(found.astype(np.int16))


class SegmentationParts:
    """``root/images/<part>/x.jpg`` with ``root/annotations/<part>/x.png``, or as the templates say.

    Args:
        num_classes: K.
        images: see ``PairSource``.
        maps: see ``PairSource``.
        suffix: see ``PairSource``.
        classes_file: names of the classes below root or absolute: a line each, or ADE20K's objectInfo150.txt; null
            numbers them.
        class_names: the names themselves, in place of a file; null for none.
        first_class: value of the first class in a map (1 in ADE20K).
        ignored: values that mean no class (0 in ADE20K).
        index_dir: where to keep what scans found; null for nowhere.
    """

    def __init__(
        self,
        *,
        num_classes: int,
        images: str = "images/{part}",
        maps: str = "annotations/{part}",
        suffix: str = ".png",
        classes_file: str | None = None,
        class_names: Sequence[str] | None = None,
        first_class: int = 1,
        ignored: Sequence[int] = (0,),
        index_dir: str | None = None,
    ) -> None:
        at_least(2, num_classes=num_classes)
        self.num_classes = num_classes
        if class_names is not None and len(class_names) != num_classes:
            raise ValueError(f"class_names has {len(class_names)} names, but data.num_classes is {num_classes}")
        self.classes_file = classes_file
        self.class_names = class_names
        self.values = {"first_class": first_class, "ignored": list(ignored)}
        self.places = {"images": images, "maps": maps, "suffix": suffix, "index_dir": index_dir}

    def __call__(self, root: str, part: str, classes: Sequence[str] | None) -> SegmentedSource:
        """A part; ValueError if there is none, or the names are not as many as the classes."""
        if self.class_names is not None:
            names = [str(name) for name in self.class_names]
        elif self.classes_file:
            names = _class_names(Path(root) / self.classes_file)
            if len(names) != self.num_classes:
                raise ValueError(
                    f"{str(Path(root) / self.classes_file)!r} names {len(names)} classes, but data.num_classes is "
                    f"{self.num_classes}"
                )
        else:
            names = [str(number + 1) for number in range(self.num_classes)]
        if classes is not None and list(classes) != names:
            other = [f"{a!r} instead of {b!r}" for a, b in zip(names, classes, strict=False) if a != b]
            raise ValueError(f"part {part!r} of {root!r} has other classes than were trained: {', '.join(other[:5])}")
        return SegmentedSource(PairSource(root, part, **self.places), names, **self.values)  # type: ignore[arg-type]


def _values(path: Path) -> np.ndarray:
    """(H, W) whole numbers of a map."""
    try:
        with Image.open(path, formats=("PNG", "BMP", "TIFF", "GIF")) as opened:
            mode = opened.mode
            values = np.asarray(opened)
    except Exception as error:  # whatever hostile bytes make Pillow raise
        raise BrokenImageError(f"class map {str(path)!r}: {type(error).__name__}: {error}") from error
    if mode not in _MODES:
        raise ValueError(f"class map {str(path)!r} has the pixel mode {mode}; needed is one whole number a pixel")
    return values


def _class_names(path: Path) -> list[str]:
    """A line each; of a table with tabs the last column, without its head."""
    try:
        lines = [line.strip() for line in path.read_text("utf-8").splitlines() if line.strip()]
    except (OSError, UnicodeDecodeError) as error:
        raise ValueError(f"class file {str(path)!r} cannot be read: {error}") from error
    if lines and "\t" in lines[0]:
        lines = [line.split("\t")[-1].split(",")[0].strip() for line in lines[1:]]
    if twice := sorted({name for name in lines if lines.count(name) > 1}):
        lines = [f"{name} {number}" if name in twice else name for number, name in enumerate(lines, 1)]
    return lines
