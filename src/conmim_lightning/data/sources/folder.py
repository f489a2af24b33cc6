"""Images in a tree of folders."""

import hashlib
import os
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from conmim_lightning.data.images.files import check_folder, unpack_command
from conmim_lightning.data.images.formats import DEFAULT_FORMATS
from conmim_lightning.data.sources.array_file import ArrayFile, PackedStrings, load_or_none
from conmim_lightning.data.sources.base import FileSource
from conmim_lightning.data.sources.folder_scan import is_unchanged, scan
from conmim_lightning.data.sources.selection import Selection


class FolderSource(FileSource):
    """All image files below a folder, ordered by folder, then name.

    Args:
        root: folder with image files, at any depth.
        labelled: the first folder below ``root`` is the class; classes are numbered in the order of names.
        classes: names of the classes by index, e.g. of the training split, for the same numbers in both; null for the
            names of the folders.
        follow_links: follow links, entering each folder once; false ignores links.
        index_dir: folder to store the result of the scan in, for the next run and for other processes; it is rebuilt
            when a folder has changed. null keeps it in memory.
        formats: formats whose suffixes are taken, see ``data.images.formats.FORMATS``.
        include_hidden: also take hidden files and folders, and those of an operating system.

    Raises:
        ValueError: root is missing, is not a folder, cannot be read or holds no image; or, if labelled, an image is in
            root itself or a class is not in ``classes``.
    """

    def __init__(
        self,
        root: str | os.PathLike[str],
        *,
        labelled: bool = False,
        classes: Sequence[str] | None = None,
        follow_links: bool = True,
        index_dir: str | None = None,
        formats: Sequence[str] = DEFAULT_FORMATS,
        include_hidden: bool = False,
    ) -> None:
        check_folder(root)
        selection = Selection(formats, include_hidden)
        index = _index(os.path.realpath(root), follow_links, selection, index_dir)
        names = PackedStrings(index["text"], index["ends"])
        if not len(names):
            raise ValueError(_no_image(os.fspath(root), index.header, selection))
        super().__init__(os.fspath(root), names)
        self.notes = index.header["notes"]
        self.index = index
        if labelled:
            self.classes, self.labels = self._labels(index, classes)

    def __getstate__(self) -> dict[str, object]:
        """Pickle without the names; they are part of the index, which is pickled as a path."""
        return {name: value for name, value in self.__dict__.items() if name != "names"}

    def __setstate__(self, state: dict[str, object]) -> None:
        """Restore the names from the index."""
        self.__dict__ |= state
        self.names = PackedStrings(self.index["text"], self.index["ends"])

    def _labels(self, index: ArrayFile, classes: Sequence[str] | None) -> tuple[Sequence[str], NDArray[np.int32]]:
        top = index["top"]
        if (top < 0).any():
            flat = self.name(int(np.argmax(top < 0)))
            raise ValueError(f"a labelled folder needs one folder per class, but {flat!r} is in the root")
        tops: list[str] = index.header["tops"]
        classes = tops if classes is None else list(classes)
        if unknown := sorted(set(tops) - set(classes)):
            raise ValueError(f"{self.root!r} has classes {unknown} that are not among {classes}")
        number = {name: label for label, name in enumerate(classes)}
        return list(classes), np.asarray([number[name] for name in tops], np.int32)[top]


def _no_image(root: str, header: Mapping[str, Any], selection: Selection) -> str:
    command = unpack_command(os.path.join(root, header["archive"])) if header["archive"] else ""
    hint = f"; images in an archive are not read, unpack it: {command}" if command else ""
    notes = "".join(f"; {note}" for note in header["notes"])
    return f"no image below {root!r}; looked for files ending in {', '.join(selection.suffixes)}{notes}{hint}"


def _index(root: str, follow_links: bool, selection: Selection, index_dir: str | None) -> ArrayFile:
    """Return the stored index if it is up to date, otherwise the index of a new scan."""
    encoded_root = os.fsencode(root)
    if index_dir is None:
        return scan(encoded_root, follow_links=follow_links, now=time.time_ns(), selection=selection)
    os.makedirs(index_dir, exist_ok=True)  # before the scan, as it may be in one of the folders
    choice = f"\0{follow_links} {selection.include_hidden} {selection.suffixes}".encode()
    digest = hashlib.sha256(encoded_root + choice).hexdigest()[:16]
    path = Path(index_dir) / f"folder-{digest}.index"
    stored = load_or_none(path)
    if stored is not None and stored.header.get("root") == root and is_unchanged(encoded_root, stored):
        return stored
    index = scan(
        encoded_root,
        follow_links=follow_links,
        now=time.time_ns(),
        selection=selection,
        leave_out=os.path.realpath(index_dir),
    )
    index.header["root"] = root
    index.save(path)
    return ArrayFile.load(path)
