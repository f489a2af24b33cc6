"""How many objects or pixels of each class a collection has."""

from collections.abc import Iterator, Mapping, Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from conmim_lightning.data.images.decode import Decoder
from conmim_lightning.data.images.files import BrokenImageError
from conmim_lightning.data.samplers.epoch import SampleKey
from conmim_lightning.data.sources.base import Source, unwrapped
from conmim_lightning.data.sources.coco import CocoSource

_SAMPLE = 64  # images whose class maps are read
_SHOWN = 12


class ClassCounts(NamedTuple):
    """Number of objects or pixels of each class.

    Attributes:
        counts: (K,) number of each class.
        unit: "objects" or "pixels".
        images: number of images that were counted.
        total: number of images of the collection.
        ignored: number of pixels without a class.
    """

    counts: NDArray[np.int64]
    unit: str
    images: int
    total: int
    ignored: int = 0

    def summary(self, names: Sequence[str], root: str) -> str:
        """Return a sentence.

        Raises:
            ValueError: there is none of any class.
        """
        sample = "" if self.images == self.total else f" in a sample of {self.images} images"
        if not self.counts.sum():
            raise ValueError(f"{root!r} has no {self.unit} of any class{sample}: there is nothing to train")
        largest: list[int] = np.argsort(-self.counts, kind="stable")[:_SHOWN].tolist()
        shown = [f"{names[label]} {self.shown(label)}" for label in largest]
        more = f", ... ({len(names) - _SHOWN} more classes)" if len(names) > _SHOWN else ""
        return f"{self.unit} per class{sample}: {', '.join(shown)}{more}"

    def missing(self, names: Sequence[str], root: str) -> str:
        """Return a warning of classes without any; empty if there are none."""
        absent: list[int] = np.flatnonzero(self.counts == 0).tolist()
        missing = [names[label] for label in absent]
        if not missing:
            return ""
        listed = ", ".join(map(repr, missing[:_SHOWN]))
        sample = "" if self.images == self.total else f", in a sample of {self.images} images"
        return f"{root!r} has no {self.unit} of {len(missing)} of {len(names)} classes{sample}: {listed}"

    def shown(self, label: int) -> str:
        """Format the number of objects of a class, or its fraction of the pixels."""
        count = int(self.counts[label])
        return f"{count / self.counts.sum():.1%}" if self.unit == "pixels" else f"{count:,}"


def class_counts(source: Source, decoder: Decoder, num_classes: int) -> ClassCounts:
    """Count the objects of all images, without crowds, or the pixels of the class maps of a sample.

    If the sample has no pixel of any class, further maps are read until one has.

    Args:
        source: source with class maps or objects.
        decoder: decoder of the image bytes.
        num_classes: number of classes K.
    """
    whole, indices = unwrapped(source)
    if isinstance(whole, CocoSource):
        return ClassCounts(whole.class_counts(indices), "objects", len(source), len(source))
    counts, ignored, order = np.zeros(num_classes, np.int64), 0, _spread(len(source))
    number = 0
    for number, index in enumerate(order, 1):
        try:
            image = decoder.open(source.read(SampleKey(0, index), decoder.max_bytes))
            label = source.annotation(index, image.height, image.width).numpy()
        except BrokenImageError:
            continue  # reported elsewhere
        counts += np.bincount(label[label >= 0], minlength=num_classes)
        ignored += int((label < 0).sum())
        if number >= _SAMPLE and counts.any():
            break
    return ClassCounts(counts, "pixels", min(number, len(source)), len(source), ignored)


def _spread(count: int) -> Iterator[int]:
    """Yield indices: first a sample, evenly spaced, then all others, which matter while no pixel is found."""
    sample = min(_SAMPLE, count)
    first = [position * count // sample for position in range(sample)]
    yield from first
    yield from (index for index in range(count) if index not in first)


def annotation_faults(source: Source) -> Mapping[str, Sequence[str]]:
    """Return the faults of annotations by name of the image, as far as the source knows them without reading images."""
    whole, _ = unwrapped(source)
    return getattr(whole, "faults", {})
