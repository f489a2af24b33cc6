"""What a collection of images is, for everything that reads one."""

import hashlib
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from conmim_lightning.data.files import read_file
from conmim_lightning.data.mapped import Names
from conmim_lightning.data.sampler import EpochSampler, Resumable, SampleKey

_MOST_CLASSES = 1_000_000


class Source(Protocol):
    """A collection of images, numbered from 0.

    Attributes:
        root: what it was made from, for messages.
        classes: names of the classes by number; empty without labels.
        notes: what was passed over when the collection was indexed, a sentence each.
        fixed: whether a number means the same image in every epoch.
    """

    root: str
    classes: Sequence[str]
    notes: Sequence[str]
    fixed: bool

    def __len__(self) -> int:
        """Number of images (for an endless one, of an epoch)."""
        ...

    def name(self, index: int) -> str:
        """Where an image lies."""
        ...

    def read(self, key: SampleKey, max_bytes: int | None = None) -> bytes:
        """An image file's content; BrokenImageError where it cannot be had."""
        ...

    def label(self, index: int) -> int:
        """Class of an image, from 0; only of a labelled source."""
        ...

    def substitute(self, index: int, draw: int) -> int:
        """Number of the image to read in place of a broken one; ``draw`` is random, from 0 to 2^31 - 1."""
        ...

    def take_faults(self) -> list[tuple[str, str]]:
        """What failed since the last call apart from single images: name and reason."""
        ...

    def sampler(self, *, seed: int, rank: int, num_devices: int, batch_size: int) -> Resumable:
        """The order in which a device reads."""
        ...

    def fingerprint(self) -> str:
        """A text that is another one for another collection or another order of it."""
        ...

    def workers(self, wanted: int) -> int:
        """How many loader processes may read, of so many wanted."""
        ...

    def without(self, names: set[str]) -> "Source":
        """The same collection without the images of these names."""
        ...


class Numbered:
    """What all collections have in common whose images have fixed numbers."""

    fixed = True
    notes: Sequence[str] = ()
    classes: Sequence[str] = ()
    root: str

    def __len__(self) -> int:
        """Number of images."""
        raise NotImplementedError

    def name(self, index: int) -> str:
        """Where an image lies."""
        raise NotImplementedError

    def substitute(self, index: int, draw: int) -> int:
        """Any other image."""
        return draw % len(self)

    def take_faults(self) -> list[tuple[str, str]]:
        """Nothing else can fail."""
        return []

    def sampler(self, *, seed: int, rank: int, num_devices: int, batch_size: int) -> Resumable:
        """Every image once an epoch."""
        return EpochSampler(len(self), seed=seed, rank=rank, num_devices=num_devices)

    def workers(self, wanted: int) -> int:
        """As many as one likes."""
        return wanted

    def without(self, names: set[str]) -> "Source":
        """Leave images out; ValueError if nothing is left."""
        kept = np.fromiter((index for index in range(len(self)) if self.name(index) not in names), np.int64)
        if not len(kept):
            raise ValueError(f"nothing of {self.root!r} is left after the exclusion of {len(names)} names")
        rest = Subset(self, kept)  # type: ignore[arg-type]
        left_out = len(self) - len(kept)
        rest.notes = [*self.notes, f"{left_out} images are excluded"]
        if left_out < len(names):
            rest.notes.append(f"{len(names) - left_out} of {len(names)} names to exclude are those of no image")
        return rest

    def fingerprint(self) -> str:
        """A text that is another one for another collection."""
        raise NotImplementedError


class FileSource(Numbered):
    """Image files below a root.

    Args:
        root: folder that the names are relative to.
        names: of the files.
        labels: (N,) int32 class of each file; None without labels.
        classes: names of the classes by number.
    """

    def __init__(
        self, root: str, names: Names, *, labels: NDArray[np.int32] | None = None, classes: Sequence[str] = ()
    ) -> None:
        self.root = root
        self.names = names
        self.labels = labels
        self.classes: Sequence[str] = list(classes)

    def __len__(self) -> int:
        """Number of images."""
        return len(self.names)

    def name(self, index: int) -> str:
        """Path relative to the root."""
        return os.fsdecode(self.names[index])

    def path(self, index: int) -> Path:
        """File of an image."""
        return Path(self.root, self.name(index))

    def read(self, key: SampleKey, max_bytes: int | None = None) -> bytes:
        """An image file's content."""
        return read_file(os.path.join(os.fsencode(self.root), self.names[key.index]), max_bytes)

    def fingerprint(self) -> str:
        """From all names."""
        return digest_of(self.names.text, self.names.ends)

    def label(self, index: int) -> int:
        """Class of an image, from 0."""
        assert self.labels is not None, "only a labelled source has labels"
        return int(self.labels[index])


class Subset(Numbered):
    """Some images of another source.

    Args:
        source: the other one.
        indices: (N,) int64 numbers of the images to keep, in the order to number them.
    """

    def __init__(self, source: Source, indices: NDArray[np.int64]) -> None:
        self.source = source
        self.indices = indices
        self.root = source.root
        self.classes = source.classes
        self.notes: Sequence[str] = source.notes

    def __len__(self) -> int:
        """Number of images."""
        return len(self.indices)

    def name(self, index: int) -> str:
        """Where an image lies."""
        return self.source.name(int(self.indices[index]))

    def read(self, key: SampleKey, max_bytes: int | None = None) -> bytes:
        """An image file's content."""
        return self.source.read(SampleKey(key.epoch, int(self.indices[key.index])), max_bytes)

    def fingerprint(self) -> str:
        """From the other source's and the numbers."""
        return f"{self.source.fingerprint()}/{digest_of(self.indices)}"

    def label(self, index: int) -> int:
        """Class of an image, from 0."""
        return self.source.label(int(self.indices[index]))

    def annotation(self, index: int, *size: int) -> Any:
        """What is known of an image besides, where the other source knows anything."""
        known: Any = self.source
        return known.annotation(int(self.indices[index]), *size)


def digest_of(*arrays: NDArray[Any]) -> str:
    """128 bits of the arrays' content, as text."""
    digest = hashlib.blake2b(digest_size=16)
    for array in arrays:
        digest.update(np.ascontiguousarray(array).view(np.uint8).data)
    return digest.hexdigest()


def class_names(largest: int, where: str) -> list[str]:
    """Names of classes that have numbers only.

    Raises:
        ValueError: there would be more than a million.
    """
    if largest >= _MOST_CLASSES:
        raise ValueError(f"{where!r} has the label {largest}; from {_MOST_CLASSES} on that is taken for a mistake")
    return [str(number) for number in range(largest + 1)]
