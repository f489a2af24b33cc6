"""What lies where in a collection of tar archives: made once, kept, and made anew for the shards that changed."""

import hashlib
import os
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import numpy as np
from tqdm import tqdm

from conmim_lightning.data.cores import available_cores
from conmim_lightning.data.mapped import Arrays, Names, load_or_none
from conmim_lightning.data.tar_index import ShardIndex, index_shard

_MIN_PARALLEL = 8  # fewer shards are indexed sooner than processes start
_Mark = tuple[str, int, int]  # name, size in bytes, time of the last change in nanoseconds


def indexed(root: str, index_dir: str | None) -> Arrays:
    """The index of all shards below a folder.

    Args:
        root: the folder, as a real path.
        index_dir: where to keep the index; None keeps it in memory.

    Returns:
        Arrays ``name_text``, ``name_ends`` (image members), ``offsets``, ``sizes``, ``labels`` of every image,
        ``shard_text``, ``shard_ends`` (relative to root) and ``shard_firsts`` ((S,) number of each shard's first
        image); header ``notes``.

    Raises:
        ValueError: a folder cannot be read.
    """
    marks = sorted(_mark(root, name) for name in _tars(root))
    path = (
        None if index_dir is None else Path(index_dir) / f"shards-{hashlib.sha256(os.fsencode(root)).hexdigest()[:16]}"
    )
    known = None if path is None else load_or_none(path)
    if known is not None and known.header.get("root") != root:
        known = None
    if known is not None and [tuple(mark) for mark in known.header["marks"]] == marks:
        return known
    built = _joined(root, marks, _parts(root, marks, known))
    if path is None:
        return built
    built.save(path)
    return Arrays.load(path)


def _tars(root: str) -> Iterator[str]:
    def fail(error: OSError) -> None:
        raise ValueError(f"cannot read folder {error.filename!r}: {error.strerror}") from error

    for parent, _, names in os.walk(root, onerror=fail):
        yield from (os.path.relpath(os.path.join(parent, name), root) for name in names if name.endswith(".tar"))


def _mark(root: str, name: str) -> _Mark:
    """By what a shard's index is known to hold; sizes of -1 where there is no file behind the name."""
    try:
        found = os.stat(os.path.join(root, name))
    except OSError:
        return name, -1, -1
    return name, found.st_size, found.st_mtime_ns


def _parts(root: str, marks: list[_Mark], known: Arrays | None) -> list[ShardIndex]:
    """Index the shards that are new or changed; the others as they were."""
    old = {} if known is None else {tuple(mark): number for number, mark in enumerate(known.header["marks"])}
    todo = [mark for mark in marks if mark not in old]
    new = dict(zip(todo, _index(os.path.join(root, mark[0]) for mark in todo), strict=True))
    return [new[mark] if mark in new else _part(known, old[mark]) for mark in marks]  # type: ignore[arg-type]


def _index(paths: Iterator[str]) -> Iterator[ShardIndex]:
    """Index shards, in parallel where that pays."""
    todo = list(paths)
    with tqdm(total=len(todo), desc="indexing shards", unit="shard", delay=1, leave=False) as bar:
        if len(todo) < _MIN_PARALLEL or available_cores() == 1:
            for path in todo:
                yield index_shard(path)
                bar.update()
            return
        with ProcessPoolExecutor(available_cores(), mp_context=get_context("spawn")) as pool:
            for part in pool.map(index_shard, todo):
                yield part
                bar.update()


def _part(known: Arrays, shard: int) -> ShardIndex:
    """One shard's part of an earlier index."""
    firsts = known["shard_firsts"]
    stop = int(firsts[shard + 1]) if shard + 1 < len(firsts) else len(known["offsets"])
    part = slice(int(firsts[shard]), stop)
    ends = known["name_ends"]
    start = int(ends[part.start - 1]) if part.start else 0
    text = known["name_text"][start : int(ends[stop - 1]) if stop else 0]
    names = Names(text, ends[part] - start)
    return ShardIndex(
        names, known["offsets"][part], known["sizes"][part], known["labels"][part], known.header["faults"][shard]
    )


def _joined(root: str, marks: list[_Mark], parts: Sequence[ShardIndex]) -> Arrays:
    """One index of all shards."""
    shards = Names.of(os.fsencode(name) for name, _, _ in marks)
    counts = np.asarray([len(part.names) for part in parts], np.int64)
    texts = np.asarray([len(part.names.text) for part in parts], np.int64)
    starts = np.cumsum(texts) - texts
    arrays: dict[str, Any] = {
        "name_text": _concatenated([part.names.text for part in parts], np.uint8),
        "name_ends": _concatenated([part.names.ends + s for part, s in zip(parts, starts, strict=True)], np.int64),
        "offsets": _concatenated([part.offsets for part in parts], np.int64),
        "sizes": _concatenated([part.sizes for part in parts], np.int64),
        "labels": _concatenated([part.labels for part in parts], np.int32),
        "shard_text": shards.text,
        "shard_ends": shards.ends,
        "shard_firsts": np.cumsum(counts) - counts,
    }
    faults = [part.faults for part in parts]
    notes = [f"{mark[0]}: {fault}" for mark, told in zip(marks, faults, strict=True) for fault in told]
    return Arrays({"root": root, "marks": marks, "faults": faults, "notes": notes}, arrays)


def _concatenated(parts: list[Any], kind: type) -> Any:
    return np.concatenate([np.empty(0, kind), *parts])
