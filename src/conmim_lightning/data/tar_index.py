"""What lies where in a tar archive, read once, from its headers alone."""

import os
import tarfile
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from conmim_lightning.data.files import is_image_name
from conmim_lightning.data.mapped import Names

_BLOCK = 512
_COMPRESSED = {b"\x1f\x8b": "gzip", b"BZh": "bzip2", b"\xfd7zX": "xz", b"\x28\xb5\x2f\xfd": "zstd"}


@dataclass
class ShardIndex:
    """Images of one shard, in the archive's order, and what is wrong with it.

    Attributes:
        names: of the image members.
        offsets: (N,) int64 where each image's bytes begin.
        sizes: (N,) int64 how many bytes it has.
        labels: (N,) int32 what the sample's ``.cls`` member says, -1 without one.
        faults: a sentence each.
    """

    names: Names
    offsets: NDArray[np.int64]
    sizes: NDArray[np.int64]
    labels: NDArray[np.int32]
    faults: list[str]


@dataclass
class _Found:
    """What the walk through a shard's headers gathers."""

    names: list[bytes] = field(default_factory=list)
    offsets: list[int] = field(default_factory=list)
    sizes: list[int] = field(default_factory=list)
    image_of: dict[str, int | None] = field(default_factory=dict)  # by key: place of the image, None without one yet
    label_of: dict[str, int] = field(default_factory=dict)  # by key
    seen: set[str] = field(default_factory=set)
    faults: list[str] = field(default_factory=list)


@dataclass
class _Counts:
    """What is told in one sentence each."""

    duplicates: list[str] = field(default_factory=list)
    hostile: list[str] = field(default_factory=list)
    no_files: list[str] = field(default_factory=list)
    bare: list[str] = field(default_factory=list)  # samples without an image


def split_key(name: str) -> tuple[str, str]:
    """Key of the sample and lower-case extension: the name up to the first dot of its last part, and what follows."""
    folder, slash, base = name.rpartition("/")
    stem, _, extension = base.partition(".")
    return (folder + slash + stem, extension.lower()) if stem else (name, "")


def is_hostile(name: str) -> bool:
    """Whether a member's name leads out of the archive."""
    return name.startswith("/") or ".." in name.split("/")


def index_shard(path: str) -> ShardIndex:
    """Index one shard in WebDataset's layout; whatever is wrong with it ends up in ``faults``.

    Args:
        path: the archive, not compressed.
    """
    found, counts = _Found(), _Counts()
    try:
        if not os.path.isfile(path):
            raise OSError("it is no file")
        with open(path, "rb") as file:
            start = file.read(4)
        kind = next((name for mark, name in _COMPRESSED.items() if start.startswith(mark)), None)
        if kind:
            found.faults.append(f"compressed with {kind}: its images cannot be read at random; unpack the shard")
        else:
            with tarfile.open(path, "r:") as archive:
                _walk(archive, path, found, counts)
    except (OSError, tarfile.TarError, ValueError, RecursionError, OverflowError, MemoryError) as error:
        found.faults.append(f"not readable as a tar archive: {getattr(error, 'strerror', None) or error}")
    counts.bare += [key for key, place in found.image_of.items() if place is None]
    labels = np.full(len(found.names), -1, np.int32)
    for key, label in found.label_of.items():
        if (place := found.image_of.get(key)) is not None:
            labels[place] = label
    offsets, sizes = np.asarray(found.offsets, np.int64), np.asarray(found.sizes, np.int64)
    return ShardIndex(Names.of(found.names), offsets, sizes, labels, found.faults + _told(counts))


def _walk(archive: tarfile.TarFile, path: str, found: _Found, counts: _Counts) -> None:
    """Go through the headers."""
    size, before = os.path.getsize(path), -1
    try:
        while (member := archive.next()) is not None:
            archive.members = []  # type: ignore[misc]  # else it keeps them all
            if member.size < 0 or member.offset_data <= before:
                found.faults.append(f"damaged: {member.name!r} has a size of {member.size} bytes")
                return
            before = member.offset_data
            if member.isreg() and member.offset_data + member.size > size:
                found.faults.append(f"truncated: it ends within {member.name!r}")
                return
            if _fit(member, found, counts):
                _take(member, path, found, counts)
        _check_end(archive, path, found)
    except tarfile.TarError as error:
        found.faults.append(f"truncated or damaged after {len(found.names)} images: {error}")


def _fit(member: tarfile.TarInfo, found: _Found, counts: _Counts) -> bool:
    """Whether a member is a file of its own with a harmless name."""
    if member.isdir():
        return False
    if not member.isreg() or member.sparse is not None:  # type: ignore[attr-defined]
        counts.no_files.append(member.name)
    elif is_hostile(member.name):
        counts.hostile.append(member.name)
    elif member.name in found.seen:
        counts.duplicates.append(member.name)
    else:
        found.seen.add(member.name)
        return True
    return False


def _take(member: tarfile.TarInfo, path: str, found: _Found, counts: _Counts) -> None:
    """Note an image or a label; other members only show that the sample is there."""
    key, extension = split_key(member.name)
    found.image_of.setdefault(key, None)
    if is_image_name("." + extension) and "." not in extension:
        if found.image_of[key] is not None:
            counts.duplicates.append(member.name)
            return
        found.image_of[key] = len(found.names)
        found.names.append(os.fsencode(member.name))
        found.offsets.append(member.offset_data)
        found.sizes.append(member.size)
    elif extension == "cls":
        with open(path, "rb") as file:
            file.seek(member.offset_data)
            text = file.read(min(member.size, 9)).strip()
        if text.isdigit():
            found.label_of[key] = int(text)


def _check_end(archive: tarfile.TarFile, path: str, found: _Found) -> None:
    """An archive ends with a block of zeros; anything else means that it was cut off or damaged."""
    place: int = archive.offset  # type: ignore[attr-defined]
    with open(path, "rb") as file:
        file.seek(place)
        block = file.read(_BLOCK)
    if not block:
        found.faults.append("no end mark: perhaps it was cut off between two members")
    elif block.strip(b"\0"):
        found.faults.append(f"damaged: no header at byte {place}, after {len(found.names)} images")


def _told(counts: _Counts) -> list[str]:
    sentences = {
        "members with the name of an earlier one, or a second image of a sample, were left out": counts.duplicates,
        "members whose names lead out of the archive were left out": counts.hostile,
        "members that are no files (links, devices, sparse files) were left out": counts.no_files,
        "samples have no image": counts.bare,
    }
    return [f"{len(names)} {what}, the first is {names[0]!r}" for what, names in sentences.items() if names]
