"""Finding the image files of a tree of folders, in parallel."""

import os
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field

import numpy as np
from tqdm import tqdm

from conmim_lightning.data.images.files import is_image_name
from conmim_lightning.data.sources.array_file import ArrayFile, PackedStrings

_THREADS = 16  # the scan waits for the file system
_BATCH = 4096  # folders
_UNSETTLED = 2_000_000_000  # nanoseconds: a folder changed so recently may change again with the same time stamp


@dataclass
class _Folder:
    """Content of one folder."""

    path: bytes  # relative to the root, b"" for the root itself
    identity: tuple[int, int]  # device and inode
    changed: int  # nanoseconds
    files: PackedStrings = field(default_factory=lambda: PackedStrings.of([]))  # image files in order
    folders: list[tuple[bool, bytes]] = field(default_factory=list)  # whether it is a link, and its name
    links: int = 0  # links that were ignored
    others: int = 0  # files without an image suffix


def scan(root: bytes, *, follow_links: bool, now: int, leave_out: str | None = None) -> ArrayFile:
    """Find the image files below a folder.

    Args:
        root: the folder.
        follow_links: follow links, entering each folder once; otherwise links are ignored and counted.
        now: time of the scan in nanoseconds.
        leave_out: real path of a folder that is not part of the collection, such as the folder of the indexes.

    Returns:
        Arrays ``text`` and ``ends`` (names relative to root, ordered by folder, then name), ``top`` ((N,) int32 index
        of the first folder below root, -1 in root), ``folder_text``, ``folder_ends`` and ``folder_changed`` of every
        folder; header ``tops`` (names of the first folders) and ``notes``.

    Raises:
        ValueError: a folder cannot be read.
    """
    folders = sorted(_walk(root, follow_links, leave_out), key=lambda folder: folder.path)
    tops = sorted({folder.path.split(b"/", 1)[0] for folder in folders if folder.path and len(folder.files)})
    indices = {name: index for index, name in enumerate(tops)}
    names = PackedStrings.join(_relative_names(folder) for folder in folders)
    top = [indices.get(folder.path.split(b"/", 1)[0], -1) for folder in folders]
    paths = PackedStrings.of(folder.path for folder in folders)
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
    return ArrayFile(header, arrays)


def is_unchanged(root: bytes, index: ArrayFile) -> bool:
    """Return whether no file or folder was added, removed or renamed since an earlier scan."""
    paths = PackedStrings(index["folder_text"], index["folder_ends"])

    def is_same(number: int) -> bool:
        try:
            changed = os.stat(os.path.join(root, paths[number])).st_mtime_ns
        except OSError:
            return False
        return changed == int(index["folder_changed"][number])

    batches = (range(start, min(start + _BATCH, len(paths))) for start in range(0, len(paths), _BATCH))
    with ThreadPoolExecutor(_THREADS) as pool:
        return all(all(pool.map(is_same, batch)) for batch in batches)


def _walk(root: bytes, follow_links: bool, leave_out: str | None) -> Iterator[_Folder]:
    """Yield every folder once, level by level; of several paths to it, the first in order counts, links last."""
    seen: set[tuple[int, int]] = set()
    level: list[tuple[bool, bytes]] = [(False, b"")]
    with ThreadPoolExecutor(_THREADS) as pool, tqdm(desc="scanning", unit=" images", delay=1, leave=False) as bar:
        while level:
            below: list[tuple[bool, bytes]] = []
            for start in range(0, len(level), _BATCH):
                batch = level[start : start + _BATCH]
                for folder in pool.map(lambda entry: _list(root, entry[1], follow_links, leave_out), batch):
                    if folder is None or folder.identity in seen:
                        continue
                    seen.add(folder.identity)
                    bar.update(len(folder.files))
                    below += [(linked, os.path.join(folder.path, name)) for linked, name in folder.folders]
                    yield folder
            level = sorted(below)


def _list(root: bytes, path: bytes, follow_links: bool, leave_out: str | None) -> _Folder | None:
    """List one folder; return None for the folder to leave out."""
    folder_path = os.path.join(root, path) if path else root
    if leave_out is not None and os.fsdecode(folder_path) == leave_out:
        return None
    try:
        status = os.stat(folder_path)
        folder = _Folder(path, (status.st_dev, status.st_ino), status.st_mtime_ns)
        files: list[bytes] = []
        with os.scandir(folder_path) as entries:
            for entry in entries:
                _add_entry(entry, folder, files, follow_links)
    except OSError as error:
        raise ValueError(f"cannot read folder {os.fsdecode(folder_path)!r}: {error.strerror}") from error
    folder.files = PackedStrings.of(sorted(files))
    return folder


def _add_entry(entry: "os.DirEntry[bytes]", folder: _Folder, files: list[bytes], follow_links: bool) -> None:
    """Add an entry; anything with an image suffix that is not a folder counts as a file, so that it is reported."""
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


def _relative_names(folder: _Folder) -> PackedStrings:
    prefix = folder.path + b"/" if folder.path else b""
    return PackedStrings.of(prefix + folder.files[index] for index in range(len(folder.files)))


def _notes(folders: list[_Folder]) -> list[str]:
    links, others = sum(folder.links for folder in folders), sum(folder.others for folder in folders)
    notes = [f"{links} links are ignored (follow_links=false)"] if links else []
    return notes + ([f"{others} files are ignored: their names have no image suffix"] if others else [])
