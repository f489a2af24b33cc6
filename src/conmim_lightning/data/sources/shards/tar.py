"""Index of a tar archive, from its headers only."""

import os
import tarfile
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from conmim_lightning.data.images.files import is_image_name
from conmim_lightning.data.sources.array_file import PackedStrings

_BLOCK = 512
_COMPRESSED = {b"\x1f\x8b": "gzip", b"BZh": "bzip2", b"\xfd7zX": "xz", b"\x28\xb5\x2f\xfd": "zstd"}


@dataclass
class TarIndex:
    """Images of one shard, in the archive's order, and its faults.

    Attributes:
        names: names of the image members.
        offsets: (N,) int64 first byte of each image.
        sizes: (N,) int64 bytes of each image.
        labels: (N,) int32 content of the sample's ``.cls`` member, -1 without one.
        faults: faults of the archive, one sentence each.
    """

    names: PackedStrings
    offsets: NDArray[np.int64]
    sizes: NDArray[np.int64]
    labels: NDArray[np.int32]
    faults: list[str]


@dataclass
class _Members:
    """Content of the headers of a shard."""

    names: list[bytes] = field(default_factory=list)
    offsets: list[int] = field(default_factory=list)
    sizes: list[int] = field(default_factory=list)
    image_of: dict[str, int | None] = field(default_factory=dict)  # by key: index of the image, None without one yet
    label_of: dict[str, int] = field(default_factory=dict)  # by key
    seen: set[str] = field(default_factory=set)
    faults: list[str] = field(default_factory=list)
    duplicates: list[str] = field(default_factory=list)
    hostile: list[str] = field(default_factory=list)
    special: list[str] = field(default_factory=list)  # links, devices, sparse files

    def summary(self) -> list[str]:
        """Return all faults, one sentence each."""
        without_image = [key for key, index in self.image_of.items() if index is None]
        sentences = {
            "members with the name of an earlier one, or a second image of a sample, are left out": self.duplicates,
            "members whose names lead out of the archive are left out": self.hostile,
            "members that are not files (links, devices, sparse files) are left out": self.special,
            "samples have no image": without_image,
        }
        counted = [f"{len(names)} {text}, the first is {names[0]!r}" for text, names in sentences.items() if names]
        return self.faults + counted


def split_key(name: str) -> tuple[str, str]:
    """Return the sample's key and the lower-case extension, split at the first dot of the last path component."""
    folder, slash, base = name.rpartition("/")
    stem, _, extension = base.partition(".")
    return (folder + slash + stem, extension.lower()) if stem else (name, "")


def is_hostile(name: str) -> bool:
    """Return whether a member's name leads out of the archive."""
    return name.startswith("/") or ".." in name.split("/")


def index_shard(path: str) -> TarIndex:
    """Index one shard in WebDataset's layout; its faults are listed in ``faults``.

    Args:
        path: path of the archive, which must not be compressed.
    """
    members = _Members()
    try:
        if not os.path.isfile(path):
            raise OSError("it is not a file")
        with open(path, "rb") as file:
            start = file.read(4)
        compression = next((name for mark, name in _COMPRESSED.items() if start.startswith(mark)), None)
        if compression:
            members.faults.append(f"compressed with {compression}: random access is impossible; unpack the shard")
        else:
            with tarfile.open(path, "r:") as archive:
                _read_headers(archive, path, members)
    except (OSError, tarfile.TarError, ValueError, RecursionError, OverflowError, MemoryError) as error:
        members.faults.append(f"not readable as a tar archive: {getattr(error, 'strerror', None) or error}")
    labels = np.full(len(members.names), -1, np.int32)
    for key, label in members.label_of.items():
        if (index := members.image_of.get(key)) is not None:
            labels[index] = label
    offsets, sizes = np.asarray(members.offsets, np.int64), np.asarray(members.sizes, np.int64)
    return TarIndex(PackedStrings.of(members.names), offsets, sizes, labels, members.summary())


def _read_headers(archive: tarfile.TarFile, path: str, members: _Members) -> None:
    size, before = os.path.getsize(path), -1
    try:
        while (member := archive.next()) is not None:
            archive.members = []  # type: ignore[misc]  # otherwise it stores them all
            if member.size < 0 or member.offset_data <= before:
                members.faults.append(f"damaged: {member.name!r} has a size of {member.size} bytes")
                return
            before = member.offset_data
            if member.isreg() and member.offset_data + member.size > size:
                members.faults.append(f"truncated: it ends within {member.name!r}")
                return
            if _is_valid(member, members):
                _add(member, path, members)
        _check_end(archive, path, members)
    except tarfile.TarError as error:
        members.faults.append(f"truncated or damaged after {len(members.names)} images: {error}")


def _is_valid(member: tarfile.TarInfo, members: _Members) -> bool:
    """Return whether a member is a new regular file with a harmless name; record it as seen or as a fault."""
    if member.isdir():
        return False
    if not member.isreg() or member.sparse is not None:  # type: ignore[attr-defined]
        members.special.append(member.name)
    elif is_hostile(member.name):
        members.hostile.append(member.name)
    elif member.name in members.seen:
        members.duplicates.append(member.name)
    else:
        members.seen.add(member.name)
        return True
    return False


def _add(member: tarfile.TarInfo, path: str, members: _Members) -> None:
    """Add an image or a label; other members only show that the sample exists."""
    key, extension = split_key(member.name)
    members.image_of.setdefault(key, None)
    if is_image_name("." + extension) and "." not in extension:
        if members.image_of[key] is not None:
            members.duplicates.append(member.name)
            return
        members.image_of[key] = len(members.names)
        members.names.append(os.fsencode(member.name))
        members.offsets.append(member.offset_data)
        members.sizes.append(member.size)
    elif extension == "cls":
        with open(path, "rb") as file:
            file.seek(member.offset_data)
            text = file.read(min(member.size, 9)).strip()
        if text.isdigit():
            members.label_of[key] = int(text)


def _check_end(archive: tarfile.TarFile, path: str, members: _Members) -> None:
    """Record a fault if the archive does not end with a block of zeros, i.e. is truncated or damaged."""
    offset: int = archive.offset  # type: ignore[attr-defined]
    with open(path, "rb") as file:
        file.seek(offset)
        block = file.read(_BLOCK)
    if not block:
        members.faults.append("no end mark: possibly truncated between two members")
    elif block.strip(b"\0"):
        members.faults.append(f"damaged: no header at byte {offset}, after {len(members.names)} images")
