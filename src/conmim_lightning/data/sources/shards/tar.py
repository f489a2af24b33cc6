"""Index of a tar archive, from its headers only."""

import os
import tarfile
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from conmim_lightning.data.sources.array_file import PackedStrings
from conmim_lightning.data.sources.shards.members import MemberChoice, ShardMembers, sample_of

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

    chosen: ShardMembers
    sample: list[tuple[str, int, int]] = field(default_factory=list)  # name, offset, size: possible images of a sample
    keys: list[str] = field(default_factory=list)
    names: list[bytes] = field(default_factory=list)
    offsets: list[int] = field(default_factory=list)
    sizes: list[int] = field(default_factory=list)
    label_of: dict[str, int] = field(default_factory=dict)  # by sample
    faults: list[str] = field(default_factory=list)

    def summary(self) -> list[str]:
        """Return all faults, one sentence each."""
        return self.faults + self.chosen.summary()

    def add(self, name: str, offset: int, size: int) -> None:
        """Add a possible image; consecutive ones of a sample are decided together."""
        if self.sample and sample_of(self.sample[0][0])[0] != sample_of(name)[0]:
            self.end_sample()
        self.sample.append((name, offset, size))

    def end_sample(self) -> None:
        """Choose among the possible images of a sample."""
        chosen = set(self.chosen.choose([name for name, _, _ in self.sample]))
        for name, offset, size in self.sample:
            if name in chosen:
                self.keys.append(self.chosen.key(name))
                self.names.append(os.fsencode(name))
                self.offsets.append(offset)
                self.sizes.append(size)
        self.sample = []

    def labels(self) -> NDArray[np.int32]:
        """Return the labels of the images, of their own or of WebDataset's sample."""
        labels = [self.label_of.get(key, self.label_of.get(sample_of(key)[0], -1)) for key in self.keys]
        return np.asarray(labels, np.int32)


def index_shard(path: str, choice: MemberChoice) -> TarIndex:
    """Index one shard in WebDataset's layout; its faults are listed in ``faults``.

    Args:
        path: path of the archive, which must not be compressed.
        choice: choice of the images.
    """
    members = _Members(choice.begin())
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
    members.end_sample()
    offsets, sizes = np.asarray(members.offsets, np.int64), np.asarray(members.sizes, np.int64)
    return TarIndex(PackedStrings.of(members.names), offsets, sizes, members.labels(), members.summary())


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
            if members.chosen.is_new_file(member):
                _add(member, path, members)
        _check_end(archive, path, members)
    except tarfile.TarError as error:
        members.faults.append(f"truncated or damaged after {len(members.names)} images: {error}")


def _add(member: tarfile.TarInfo, path: str, members: _Members) -> None:
    """Add an image or a label."""
    if members.chosen.takes(member.name):
        members.add(member.name, member.offset_data, member.size)
    elif member.name.lower().endswith(".cls"):
        with open(path, "rb") as file:
            file.seek(member.offset_data)
            text = file.read(min(member.size, 9)).strip()
        if text.isdigit():
            members.label_of[member.name.rpartition(".")[0]] = int(text)


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
