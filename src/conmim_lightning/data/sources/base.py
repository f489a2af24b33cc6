"""Base classes of image collections."""

import hashlib
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from conmim_lightning.data.images.files import read_file
from conmim_lightning.data.samplers.epoch import EpochSampler, ResumableSampler, SampleKey
from conmim_lightning.data.sources.array_file import PackedStrings

_MAX_CLASSES = 1_000_000


class Source:
    """A collection of images, indexed from 0.

    Attributes:
        root: path or URL of the collection, for messages.
        classes: names of the classes by index; empty without labels.
        notes: sentences about what was left out when the collection was indexed.
        fixed: whether an index means the same image in every epoch.
    """

    root: str
    classes: Sequence[str] = ()
    notes: Sequence[str] = ()
    fixed = True

    def __len__(self) -> int:
        """Number of images; for an endless collection, images per epoch."""
        raise NotImplementedError

    def name(self, index: int) -> str:
        """Name of an image."""
        raise NotImplementedError

    def read(self, key: SampleKey, max_bytes: int | None = None) -> bytes:
        """Read an image file; BrokenImageError if that fails or the file has more than ``max_bytes`` bytes."""
        raise NotImplementedError

    def fingerprint(self) -> str:
        """Return a string that differs for other images or another order of the images."""
        raise NotImplementedError

    def label(self, index: int) -> int:
        """Class of an image, from 0."""
        raise ValueError(f"{self.root!r} has no labels")

    def annotation(self, index: int, height: int, width: int) -> Any:
        """Annotation of an image of this size: a class map, or objects."""
        raise ValueError(f"{self.root!r} has no annotations")

    def substitute(self, index: int, draw: int) -> int:
        """Index of the image that replaces a broken one; ``draw`` is a random integer from 0 to 2^31 - 1."""
        raise NotImplementedError

    def pop_faults(self) -> list[tuple[str, str]]:
        """Return name and reason of failures since the last call that are not of single images, such as of a shard."""
        return []

    def sampler(self, *, seed: int, rank: int, num_devices: int, batch_size: int) -> ResumableSampler:
        """Return the sampler of a device."""
        raise NotImplementedError

    def workers(self, wanted: int) -> int:
        """Return the number of loader processes that may read, at most ``wanted``."""
        return wanted

    def without(self, names: set[str]) -> "Source":
        """Return the collection without the images of these names."""
        raise NotImplementedError


class IndexedSource(Source):
    """A collection whose images have fixed indices.

    A subclass sets ``root`` and implements ``__len__``, ``name``, ``read`` and ``fingerprint``.
    """

    def substitute(self, index: int, draw: int) -> int:
        """Return a random index of the collection."""
        return draw % len(self)

    def sampler(self, *, seed: int, rank: int, num_devices: int, batch_size: int) -> ResumableSampler:
        """Return a sampler that yields every image once per epoch."""
        return EpochSampler(len(self), seed=seed, rank=rank, num_devices=num_devices)

    def without(self, names: set[str]) -> Source:
        """Return the collection without the images of these names; ValueError if none remains."""
        remaining = np.fromiter((index for index in range(len(self)) if self.name(index) not in names), np.int64)
        if not len(remaining):
            raise ValueError(f"no image of {self.root!r} remains after the exclusion of {len(names)} names")
        rest = Subset(self, remaining)
        excluded = len(self) - len(remaining)
        rest.notes = [*self.notes, f"{excluded} images are excluded"]
        if excluded < len(names):
            rest.notes.append(f"{len(names) - excluded} of {len(names)} names to exclude do not belong to any image")
        return rest


class FileSource(IndexedSource):
    """Image files below a root folder.

    Args:
        root: folder that the names are relative to.
        names: names of the files.
        labels: (N,) int32 class of each file; None without labels.
        classes: names of the classes by index.
    """

    def __init__(
        self, root: str, names: PackedStrings, *, labels: NDArray[np.int32] | None = None, classes: Sequence[str] = ()
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
        """Path of an image file."""
        return Path(self.root, self.name(index))

    def read(self, key: SampleKey, max_bytes: int | None = None) -> bytes:
        """Read an image file."""
        return read_file(os.path.join(os.fsencode(self.root), self.names[key.index]), max_bytes)

    def fingerprint(self) -> str:
        """Return a digest of all names."""
        return digest_of(self.names.text, self.names.ends)

    def label(self, index: int) -> int:
        """Class of an image, from 0."""
        return super().label(index) if self.labels is None else int(self.labels[index])


class Subset(IndexedSource):
    """Some images of another source.

    Args:
        source: the other source.
        indices: (N,) int64 indices of the images to keep, in their new order.
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
        """Name of an image."""
        return self.source.name(int(self.indices[index]))

    def read(self, key: SampleKey, max_bytes: int | None = None) -> bytes:
        """Read an image file."""
        return self.source.read(SampleKey(key.epoch, int(self.indices[key.index])), max_bytes)

    def fingerprint(self) -> str:
        """Return the fingerprint of the other source and a digest of the indices."""
        return f"{self.source.fingerprint()}/{digest_of(self.indices)}"

    def label(self, index: int) -> int:
        """Class of an image, from 0."""
        return self.source.label(int(self.indices[index]))

    def annotation(self, index: int, height: int, width: int) -> Any:
        """Annotation of an image."""
        return self.source.annotation(int(self.indices[index]), height, width)


def unwrapped(source: Source) -> tuple[Source, NDArray[np.int64]]:
    """Return the source of a subset, or the source itself, and the indices of its images there."""
    indices = np.arange(len(source))
    while isinstance(source, Subset):
        indices, source = source.indices[indices], source.source
    return source, indices


def digest_of(*arrays: NDArray[Any]) -> str:
    """Return a 128-bit digest of the arrays' content, as text."""
    digest = hashlib.blake2b(digest_size=16)
    for array in arrays:
        digest.update(np.ascontiguousarray(array).view(np.uint8).data)
    return digest.hexdigest()


def number_classes(largest: int, where: str) -> list[str]:
    """Return the numbers 0 to ``largest`` as class names, for classes without names.

    Raises:
        ValueError: there would be more than a million.
    """
    if largest >= _MAX_CLASSES:
        raise ValueError(f"{where!r} has the label {largest}; labels from {_MAX_CLASSES} on are rejected as a mistake")
    return [str(number) for number in range(largest + 1)]
