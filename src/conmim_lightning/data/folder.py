"""Images in a tree of folders."""

import hashlib
import os
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from conmim_lightning.data.files import SUFFIXES, check_folder
from conmim_lightning.data.mapped import Arrays, Names, load_or_none
from conmim_lightning.data.scan import scan, unchanged
from conmim_lightning.data.sources import FileSource


class FolderSource(FileSource):
    """All image files below a folder, ordered by folder, then name.

    Args:
        root: the folder; files below it with one of ``SUFFIXES``, whatever the depth.
        labelled: also take the first folder below ``root`` as the class; classes are numbered in the order of names.
        classes: number the classes as this list does, say that of the training images; null takes what is found.
        follow_links: take what links lead to, entering each folder once; false passes links over.
        index_dir: where to keep what the scan found, for the next run and for other processes; the index is made anew
            when a folder has changed. null keeps it in memory.

    Raises:
        ValueError: root is missing, is no folder, cannot be read or holds no image; or, when labelled, an image lies
            in root itself or a class is not in ``classes``.
    """

    def __init__(
        self,
        root: str | os.PathLike[str],
        *,
        labelled: bool = False,
        classes: Sequence[str] | None = None,
        follow_links: bool = True,
        index_dir: str | None = None,
    ) -> None:
        check_folder(root)
        found = _indexed(os.path.realpath(root), follow_links, index_dir)
        names = Names(found["text"], found["ends"])
        if not len(names):
            raise ValueError(f"no image below {os.fspath(root)!r}; looked for files ending in {', '.join(SUFFIXES)}")
        super().__init__(os.fspath(root), names)
        self.notes = found.header["notes"]
        self.index = found
        if labelled:
            self.classes, self.labels = self._labelled(found, classes)

    def __getstate__(self) -> dict[str, object]:
        """The names travel with the index, that is, as a file's name."""
        return {name: value for name, value in self.__dict__.items() if name != "names"}

    def __setstate__(self, state: dict[str, object]) -> None:
        """Take the names out of the index."""
        self.__dict__ |= state
        self.names = Names(self.index["text"], self.index["ends"])

    def _labelled(self, found: Arrays, classes: Sequence[str] | None) -> tuple[Sequence[str], NDArray[np.int32]]:
        top = found["top"]
        if (top < 0).any():
            flat = self.name(int(np.argmax(top < 0)))
            raise ValueError(f"a labelled folder needs a folder for each class, but {flat!r} lies in the root")
        tops: list[str] = found.header["tops"]
        classes = tops if classes is None else list(classes)
        if unknown := sorted(set(tops) - set(classes)):
            raise ValueError(f"{self.root!r} has classes {unknown} that are not among {classes}")
        number = {name: label for label, name in enumerate(classes)}
        return list(classes), np.asarray([number[name] for name in tops], np.int32)[top]


def _indexed(root: str, follow_links: bool, index_dir: str | None) -> Arrays:
    """What a scan finds, from the index if that still holds."""
    place = os.fsencode(root)
    if index_dir is None:
        return scan(place, follow_links=follow_links, now=time.time_ns())
    os.makedirs(index_dir, exist_ok=True)  # before the scan, as it may lie in one of the folders
    digest = hashlib.sha256(place + b"\0links" * follow_links).hexdigest()[:16]
    path = Path(index_dir) / f"folder-{digest}.index"
    known = load_or_none(path)
    if known is not None and known.header.get("root") == root and unchanged(place, known):
        return known
    found = scan(place, follow_links=follow_links, now=time.time_ns(), leave_out=os.path.realpath(index_dir))
    found.header["root"] = root
    found.save(path)
    return Arrays.load(path)
