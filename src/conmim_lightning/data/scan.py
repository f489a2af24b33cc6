"""Finding the image files of a tree of folders, in parallel."""

import os
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field

import numpy as np
from tqdm import tqdm

from conmim_lightning.data.files import is_image_name
from conmim_lightning.data.mapped import Arrays, Names

_THREADS = 16  # what a scan waits for is the file system
_AT_ONCE = 4096  # folders
_UNSETTLED = 2_000_000_000  # nanoseconds: a folder changed so recently may change again under the same time stamp


@dataclass
class _Folder:
    """What one folder holds."""

    path: bytes  # relative to the root, b"" for the root itself
    identity: tuple[int, int]  # device and inode
    changed: int  # when, in nanoseconds
    files: Names = field(default_factory=lambda: Names.of([]))  # image files in order
    folders: list[tuple[bool, bytes]] = field(default_factory=list)  # whether it is a link, and its name
    links: int = 0  # links passed over
    others: int = 0  # files that are no images by their names


def scan(root: bytes, *, follow_links: bool, now: int, leave_out: str | None = None) -> Arrays:
    """Find the image files below a folder.

    Args:
        root: the folder.
        follow_links: take what links lead to, each folder once; else links are passed over and counted.
        now: time of the scan in nanoseconds.
        leave_out: a folder that does not belong to the collection, such as that of the indexes; a real path.

    Returns:
        Arrays ``text`` and ``ends`` (names relative to root, ordered by folder, then name), ``top`` ((N,) int32 number
        of the first folder below root, -1 for none), ``folder_text``, ``folder_ends`` and ``folder_changed`` of every
        folder; header ``tops`` (names of the first folders) and ``notes``.

    Raises:
        ValueError: a folder cannot be read.
    """
    folders = sorted(_walk(root, follow_links, leave_out), key=lambda folder: folder.path)
    tops = sorted({folder.path.split(b"/", 1)[0] for folder in folders if folder.path and len(folder.files)})
    numbers = {name: number for number, name in enumerate(tops)}
    names = _joined(folders)
    top = [numbers.get(folder.path.split(b"/", 1)[0], -1) for folder in folders]
    paths = Names.of(folder.path for folder in folders)
    changed = [folder.changed if folder.changed < now - _UNSETTLED else 0 for folder in folders]
    header = {"tops": [os.fsdecode(name) for name in tops], "notes": _notes(folders)}
    arrays = {
        "text": names.text,
        "ends": names.ends,
        "top": np.repeat(np.asarray(top, np.int32), [len(folder.files) for folder in folders]),
        "folder_text": paths.text,
        "folder_ends": paths.ends,
        "folder_changed": np.asarray(changed, np.int64),
    }
    return Arrays(header, arrays)


def unchanged(root: bytes, found: Arrays) -> bool:
    """Whether every folder of an earlier scan is as it was: no file or folder added, removed or renamed."""
    paths = Names(found["folder_text"], found["folder_ends"])

    def same(number: int) -> bool:
        try:
            now = os.stat(os.path.join(root, paths[number])).st_mtime_ns
        except OSError:
            return False
        return now == int(found["folder_changed"][number])

    parts = (range(start, min(start + _AT_ONCE, len(paths))) for start in range(0, len(paths), _AT_ONCE))
    with ThreadPoolExecutor(_THREADS) as pool:
        return all(all(pool.map(same, part)) for part in parts)


def _walk(root: bytes, follow_links: bool, leave_out: str | None) -> Iterator[_Folder]:
    """Every folder once, level by level; of several ways to one folder the first in order, links last, is taken."""
    seen: set[tuple[int, int]] = set()
    level: list[tuple[bool, bytes]] = [(False, b"")]
    with ThreadPoolExecutor(_THREADS) as pool, tqdm(desc="scanning", unit=" images", delay=1, leave=False) as bar:
        while level:
            below: list[tuple[bool, bytes]] = []
            for start in range(0, len(level), _AT_ONCE):
                part = level[start : start + _AT_ONCE]
                for folder in pool.map(lambda entry: _list(root, entry[1], follow_links, leave_out), part):
                    if folder is None or folder.identity in seen:
                        continue
                    seen.add(folder.identity)
                    bar.update(len(folder.files))
                    below += [(linked, os.path.join(folder.path, name)) for linked, name in folder.folders]
                    yield folder
            level = sorted(below)


def _list(root: bytes, path: bytes, follow_links: bool, leave_out: str | None) -> _Folder | None:
    """One folder; None for the one to be left out."""
    place = os.path.join(root, path) if path else root
    if leave_out is not None and os.fsdecode(place) == leave_out:
        return None
    try:
        status = os.stat(place)
        folder = _Folder(path, (status.st_dev, status.st_ino), status.st_mtime_ns)
        files: list[bytes] = []
        with os.scandir(place) as entries:
            for entry in entries:
                _sort_in(entry, folder, files, follow_links)
    except OSError as error:
        raise ValueError(f"cannot read folder {os.fsdecode(place)!r}: {error.strerror}") from error
    folder.files = Names.of(sorted(files))
    return folder


def _sort_in(entry: "os.DirEntry[bytes]", folder: _Folder, files: list[bytes], follow_links: bool) -> None:
    """Put an entry where it belongs; whatever has an image's name and is no folder counts as a file, to be reported."""
    if not follow_links and entry.is_symlink():
        folder.links += 1
    elif _is_folder(entry):
        folder.folders.append((entry.is_symlink(), entry.name))
    elif is_image_name(entry.name):
        files.append(entry.name)
    else:
        folder.others += 1


def _is_folder(entry: "os.DirEntry[bytes]") -> bool:
    try:
        return entry.is_dir()
    except OSError:  # such as a circle of links
        return False


def _joined(folders: list[_Folder]) -> Names:
    """Names relative to the root."""
    texts, ends, start = [], [], 0
    for folder in folders:
        prefix = folder.path + b"/" if folder.path else b""
        names = Names.of(prefix + folder.files[number] for number in range(len(folder.files)))
        folder_text = names.text
        texts.append(folder_text)
        ends.append(names.ends + start)
        start += len(folder_text)
    empty = [np.empty(0, np.uint8)], [np.empty(0, np.int64)]
    return Names(np.concatenate(texts or empty[0]), np.concatenate(ends or empty[1]))


def _notes(folders: list[_Folder]) -> list[str]:
    links, others = sum(folder.links for folder in folders), sum(folder.others for folder in folders)
    notes = [f"{links} links were passed over (follow_links=false)"] if links else []
    return notes + ([f"{others} files were passed over: their names do not end like an image's"] if others else [])
