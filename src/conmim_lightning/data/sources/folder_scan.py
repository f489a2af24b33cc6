"""Finding the image files of a tree of folders, in parallel."""

import os
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field

import numpy as np
from tqdm import tqdm

from conmim_lightning.data.images.files import unpack_command
from conmim_lightning.data.sources.array_file import ArrayFile, PackedStrings
from conmim_lightning.data.sources.selection import PassedOver, Selection

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
    passed_over: PassedOver = field(default_factory=PassedOver)
    archive: str = ""  # an archive, which may hold images


def scan(
    root: bytes, *, follow_links: bool, now: int, selection: Selection | None = None, leave_out: str | None = None
) -> ArrayFile:
    """Find the image files below a folder.

    Args:
        root: the folder.
        follow_links: follow links, entering each folder once; otherwise links are ignored and counted.
        now: time of the scan in nanoseconds.
        selection: choice of the files; None for the default formats, without hidden files.
        leave_out: real path of a folder that is not part of the collection, such as the folder of the indexes.

    Returns:
        Arrays ``text`` and ``ends`` (names relative to root, ordered by folder, then name), ``top`` ((N,) int32 index
        of the first folder below root, -1 in root), ``folder_text``, ``folder_ends`` and ``folder_changed`` of every
        folder; header ``tops`` (names of the first folders), ``notes`` and ``archive`` (path of an archive, or empty).

    Raises:
        ValueError: a folder cannot be read.
    """
    lister = _Lister(root, follow_links, leave_out, selection or Selection())
    folders = sorted(_walk(lister), key=lambda folder: folder.path)
    tops = sorted({folder.path.split(b"/", 1)[0] for folder in folders if folder.path and len(folder.files)})
    indices = {name: index for index, name in enumerate(tops)}
    names = PackedStrings.join(_relative_names(folder) for folder in folders)
    top = [indices.get(folder.path.split(b"/", 1)[0], -1) for folder in folders]
    paths = PackedStrings.of(folder.path for folder in folders)
    changed = [folder.changed if folder.changed < now - _UNSETTLED else 0 for folder in folders]
    archive = next((folder.archive for folder in folders if folder.archive), "")
    header = {"tops": [os.fsdecode(name) for name in tops], "notes": _notes(folders), "archive": archive}
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


def _walk(lister: "_Lister") -> Iterator[_Folder]:
    """Yield every folder once, level by level; of several paths to it, the first in order counts, links last."""
    seen: set[tuple[int, int]] = set()
    level: list[tuple[bool, bytes]] = [(False, b"")]
    with ThreadPoolExecutor(_THREADS) as pool, tqdm(desc="scanning", unit=" images", delay=1, leave=False) as bar:
        while level:
            below: list[tuple[bool, bytes]] = []
            for start in range(0, len(level), _BATCH):
                batch = level[start : start + _BATCH]
                for folder in pool.map(lambda entry: lister.list(entry[1]), batch):
                    if folder is None or folder.identity in seen:
                        continue
                    seen.add(folder.identity)
                    bar.update(len(folder.files))
                    below += [(linked, os.path.join(folder.path, name)) for linked, name in folder.folders]
                    yield folder
            level = sorted(below)


class _Lister:
    """List single folders, see ``scan``."""

    def __init__(self, root: bytes, follow_links: bool, leave_out: str | None, selection: Selection) -> None:
        self.root = root
        self.follow_links = follow_links
        self.leave_out = leave_out
        self.selection = selection

    def list(self, path: bytes) -> _Folder | None:
        """List one folder; return None for the folder to leave out."""
        folder_path = os.path.join(self.root, path) if path else self.root
        if self.leave_out is not None and os.fsdecode(folder_path) == self.leave_out:
            return None
        try:
            status = os.stat(folder_path)
            folder = _Folder(path, (status.st_dev, status.st_ino), status.st_mtime_ns)
            files: list[bytes] = []
            with os.scandir(folder_path) as entries:
                for entry in entries:
                    self._add(entry, folder, files)
        except OSError as error:
            raise ValueError(f"cannot read folder {os.fsdecode(folder_path)!r}: {error.strerror}") from error
        folder.files = PackedStrings.of(sorted(files))
        return folder

    def _add(self, entry: "os.DirEntry[bytes]", folder: _Folder, files: "list[bytes]") -> None:
        """Add an entry; anything with an image suffix that is not a folder counts as a file, so that it is reported."""
        if self.selection.leaves_hidden(entry.name):
            folder.passed_over.add_hidden(entry.name)
        elif not self.follow_links and entry.is_symlink():
            folder.links += 1
        elif _is_folder(entry):
            folder.folders.append((entry.is_symlink(), entry.name))
        elif self.selection.is_image(entry.name):
            files.append(entry.name)
        else:
            folder.passed_over.add_other(entry.name)
            if unpack_command(os.fsdecode(entry.name)):
                folder.archive = folder.archive or os.fsdecode(os.path.join(folder.path, entry.name))


def _is_folder(entry: "os.DirEntry[bytes]") -> bool:
    try:
        return entry.is_dir()
    except OSError:  # such as a circle of links
        return False


def _relative_names(folder: _Folder) -> PackedStrings:
    prefix = folder.path + b"/" if folder.path else b""
    return PackedStrings.of(prefix + folder.files[index] for index in range(len(folder.files)))


def _notes(folders: list[_Folder]) -> list[str]:
    links, passed_over = sum(folder.links for folder in folders), PassedOver()
    for folder in folders:
        passed_over += folder.passed_over
    notes = [f"{links} links are ignored (follow_links=false)"] if links else []
    return notes + passed_over.notes()
