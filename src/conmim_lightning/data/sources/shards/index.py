"""Index of a collection of tar archives: stored, and updated for the shards that changed."""

import hashlib
import os
import shlex
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from multiprocessing import get_context
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from tqdm import tqdm

from conmim_lightning.cores import available_cores
from conmim_lightning.data.sources.array_file import ArrayFile, PackedStrings, load_or_none
from conmim_lightning.data.sources.shards.members import MemberChoice
from conmim_lightning.data.sources.shards.tar import TarIndex, index_shard

_MIN_PARALLEL = 8  # shards; with fewer, starting processes takes longer than indexing
_COMMANDS = {
    ".tar.gz": "gunzip {}",
    ".tgz": "gunzip {}",
    ".tar.bz2": "bunzip2 {}",
    ".tbz2": "bunzip2 {}",
    ".tar.xz": "unxz {}",
    ".txz": "unxz {}",
    ".tar.zst": "zstd --decompress {}",
}
"""Command that turns a compressed archive into a plain one, by suffix."""

_Stamp = tuple[str, int, int]  # name, size in bytes, time of the last change in nanoseconds


class ShardFiles(NamedTuple):
    """Files below a folder, as paths relative to it, in order.

    Attributes:
        tars: plain archives, which are read.
        compressed: compressed archives, which cannot be read at random.
    """

    tars: list[str]
    compressed: list[str]

    def notes(self, root: str) -> list[str]:
        """Return a sentence about the compressed archives; none without any."""
        if not self.compressed:
            return []
        path = shlex.quote(os.path.join(root, self.compressed[0]))
        command = next(text for suffix, text in _COMMANDS.items() if self.compressed[0].lower().endswith(suffix))
        return [
            f"{len(self.compressed)} compressed archives are left out, as their images cannot be read at random, the "
            f"first is {self.compressed[0]!r}; unpack it: {command.format(path)}"
        ]


def shard_files(root: str) -> ShardFiles:
    """List the archives below a folder; ValueError if a folder cannot be read."""

    def fail(error: OSError) -> None:
        raise ValueError(f"cannot read folder {error.filename!r}: {error.strerror}") from error

    paths = sorted(
        os.path.relpath(os.path.join(parent, name), root)
        for parent, _, names in os.walk(root, onerror=fail)
        for name in names
    )
    compressed = [path for path in paths if path.lower().endswith(tuple(_COMMANDS))]
    return ShardFiles([path for path in paths if path.endswith(".tar")], compressed)


def shard_index(root: str, tars: Sequence[str], index_dir: str | None, choice: MemberChoice) -> ArrayFile:
    """Index shards.

    Args:
        root: real path of the folder.
        tars: paths of the shards, relative to root.
        index_dir: folder to store the index in; None keeps it in memory.
        choice: choice of the images.

    Returns:
        Arrays ``name_text``, ``name_ends`` (image members), ``offsets``, ``sizes``, ``labels`` of every image,
        ``shard_text``, ``shard_ends`` (relative to root) and ``shard_firsts`` ((S,) index of each shard's first
        image); header ``notes``.
    """
    stamps = sorted(_stamp(root, name) for name in tars)
    path = None
    if index_dir is not None:
        chosen = f"\0{choice.image_keys} {choice.selection.include_hidden} {choice.selection.suffixes}".encode()
        path = Path(index_dir) / f"shards-{hashlib.sha256(os.fsencode(root) + chosen).hexdigest()[:16]}"
    stored = None if path is None else load_or_none(path)
    if stored is not None and stored.header.get("root") != root:
        stored = None
    if stored is not None and [tuple(stamp) for stamp in stored.header["stamps"]] == stamps:
        return stored
    index = _joined(root, stamps, _update(root, stamps, stored, choice))
    if path is None:
        return index
    index.save(path)
    return ArrayFile.load(path)


def _stamp(root: str, name: str) -> _Stamp:
    """Return what identifies a shard's content: name, size and time of change; -1, -1 if the file is missing."""
    try:
        status = os.stat(os.path.join(root, name))
    except OSError:
        return name, -1, -1
    return name, status.st_size, status.st_mtime_ns


def _update(root: str, stamps: list[_Stamp], stored: ArrayFile | None, choice: MemberChoice) -> list[TarIndex]:
    """Index the shards that are new or changed; keep the others."""
    old = {} if stored is None else {tuple(stamp): shard for shard, stamp in enumerate(stored.header["stamps"])}
    todo = [stamp for stamp in stamps if stamp not in old]
    new = dict(zip(todo, _index([os.path.join(root, stamp[0]) for stamp in todo], choice), strict=True))
    return [new[stamp] if stored is None or stamp in new else _extract(stored, old[stamp]) for stamp in stamps]


def _index(paths: Sequence[str], choice: MemberChoice) -> Iterator[TarIndex]:
    """Index shards, in parallel if there are many."""
    with tqdm(total=len(paths), desc="indexing shards", unit="shard", delay=1, leave=False) as bar:
        if len(paths) < _MIN_PARALLEL or available_cores() == 1:
            for path in paths:
                yield index_shard(path, choice)
                bar.update()
            return
        with ProcessPoolExecutor(available_cores(), mp_context=get_context("spawn")) as pool:
            for index in pool.map(partial(index_shard, choice=choice), paths):
                yield index
                bar.update()


def _extract(stored: ArrayFile, shard: int) -> TarIndex:
    """Return the index of one shard from a stored index."""
    firsts = stored["shard_firsts"]
    stop = int(firsts[shard + 1]) if shard + 1 < len(firsts) else len(stored["offsets"])
    images = slice(int(firsts[shard]), stop)
    ends = stored["name_ends"]
    start = int(ends[images.start - 1]) if images.start else 0
    text = stored["name_text"][start : int(ends[stop - 1]) if stop else 0]
    names = PackedStrings(text, ends[images] - start)
    offsets, sizes, labels = (stored[name][images] for name in ("offsets", "sizes", "labels"))
    return TarIndex(names, offsets, sizes, labels, stored.header["faults"][shard])


def _joined(root: str, stamps: list[_Stamp], shards: Sequence[TarIndex]) -> ArrayFile:
    """Join the indexes of all shards."""
    shard_names = PackedStrings.of(os.fsencode(name) for name, _, _ in stamps)
    names = PackedStrings.join(shard.names for shard in shards)
    counts = np.asarray([len(shard.names) for shard in shards], np.int64)
    arrays = {
        "name_text": names.text,
        "name_ends": names.ends,
        "offsets": _concatenate([shard.offsets for shard in shards], np.int64),
        "sizes": _concatenate([shard.sizes for shard in shards], np.int64),
        "labels": _concatenate([shard.labels for shard in shards], np.int32),
        "shard_text": shard_names.text,
        "shard_ends": shard_names.ends,
        "shard_firsts": np.cumsum(counts) - counts,
    }
    faults = [shard.faults for shard in shards]
    notes = [f"{stamp[0]}: {fault}" for stamp, listed in zip(stamps, faults, strict=True) for fault in listed]
    return ArrayFile({"root": root, "stamps": stamps, "faults": faults, "notes": notes}, arrays)


def _concatenate(arrays: Sequence[NDArray[np.integer]], dtype: type[np.integer]) -> NDArray[np.integer]:
    return np.concatenate([np.empty(0, dtype), *arrays])
