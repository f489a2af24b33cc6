"""Images in a tree of folders."""

import os
from collections.abc import Iterator, Sequence
from pathlib import Path

SUFFIXES = (".jpg", ".jpeg", ".png", ".webp", ".gif", ".bmp", ".tif", ".tiff")


def check_folder(root: str | os.PathLike[str]) -> None:
    """Raise ValueError unless the folder exists."""
    if not os.path.isdir(root):
        what = "is not a folder" if os.path.exists(root) else "does not exist"
        raise ValueError(f"image folder {os.fspath(root)!r} {what}")


class FolderSource:
    """All image files below a folder, in the order of their names; whole numbers from 0 name them.

    Args:
        root: the folder; files below it with one of ``SUFFIXES``, whatever the depth.
        labelled: also take the first folder below ``root`` as the class; classes are numbered in the order of names.
        classes: number the classes as this list does, say that of the training images; null takes what is found.

    Attributes:
        paths: relative to root, sorted.
        classes: names of the classes by number; empty unless labelled.

    Raises:
        ValueError: root is missing, is no folder, cannot be read or holds no image; or, when labelled, an image lies
            in root itself or a class is not in ``classes``.
    """

    def __init__(
        self, root: str | os.PathLike[str], *, labelled: bool = False, classes: Sequence[str] | None = None
    ) -> None:
        check_folder(root)
        self.root = Path(root)
        self.paths = sorted(os.path.relpath(path, self.root) for path in _image_files(self.root))
        if not self.paths:
            raise ValueError(f"no image below {str(self.root)!r}; looked for files ending in {', '.join(SUFFIXES)}")
        self.classes: list[str] = []
        if labelled:
            if flat := [path for path in self.paths if os.sep not in path]:
                raise ValueError(f"a labelled folder needs a folder for each class, but {flat[0]!r} lies in the root")
            found = sorted({path.split(os.sep, 1)[0] for path in self.paths})
            self.classes = found if classes is None else list(classes)
            if unknown := sorted(set(found) - set(self.classes)):
                raise ValueError(f"{str(self.root)!r} has classes {unknown} that are not among {self.classes}")
        self._class_number = {name: number for number, name in enumerate(self.classes)}

    def __len__(self) -> int:
        """Number of images."""
        return len(self.paths)

    def path(self, index: int) -> Path:
        """File of an image."""
        return self.root / self.paths[index]

    def label(self, index: int) -> int:
        """Class of an image, from 0; only of a labelled source."""
        return self._class_number[self.paths[index].split(os.sep, 1)[0]]


def _image_files(folder: Path) -> Iterator[str]:
    """Image files below a folder, following links to files but not to folders (which could form a loop)."""

    def fail(error: OSError) -> None:
        raise ValueError(f"cannot read folder {error.filename!r}: {error.strerror}") from error

    for parent, _, names in os.walk(folder, onerror=fail):
        yield from (os.path.join(parent, name) for name in names if name.lower().endswith(SUFFIXES))
