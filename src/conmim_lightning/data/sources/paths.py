"""Images that a command names: a folder, files, patterns, or a list of files."""

import glob
import os
from collections.abc import Sequence
from pathlib import Path

from conmim_lightning.data.images.files import check_exists
from conmim_lightning.data.images.formats import DEFAULT_FORMATS, suffixes_of
from conmim_lightning.data.sources.array_file import PackedStrings
from conmim_lightning.data.sources.base import FileSource
from conmim_lightning.data.sources.folder import FolderSource
from conmim_lightning.data.sources.manifest import ManifestSource

Images = str | Sequence[str]
_LISTS = (".txt", ".tsv", ".csv", ".parquet")


def open_images(images: Images, formats: Sequence[str] = DEFAULT_FORMATS) -> FileSource:
    """Open images without annotations.

    Args:
        images: a folder; a file; a pattern with ``*``, ``?``, ``[...]`` or ``**``; a list of files (.txt with one path
            per line, or a table with a column "path"), relative to its folder; or several of files and patterns.
        formats: formats whose suffixes are taken in a folder, see ``FolderSource``.

    Raises:
        ValueError: something is missing, or there is no image.
    """
    if isinstance(images, str) and os.path.isdir(images):
        return FolderSource(images, formats=formats)
    if isinstance(images, str) and images.lower().endswith(_LISTS) and os.path.isfile(images):
        path = Path(images).absolute()
        listed = ManifestSource(path.parent, manifest=str(path))
        paths = [str(listed.path(index)) for index in range(len(listed))]
    else:
        paths = [path for name in ([images] if isinstance(images, str) else images) for path in _matches(name, formats)]
    if not paths:
        raise ValueError(f"no image matches {images!r}")
    paths = [os.path.normpath(os.path.join(os.getcwd(), path)) for path in paths]  # so that all names lie below root
    root = os.path.commonpath([Path(path).parent for path in paths])
    return FileSource(root, PackedStrings.of(os.fsencode(os.path.relpath(path, root)) for path in paths))


def check_images(images: Images) -> None:
    """Raise ValueError if a folder or file does not exist; patterns are not checked."""
    for name in [images] if isinstance(images, str) else images:
        if not glob.has_magic(name):
            check_exists(name)


def _matches(name: str, formats: Sequence[str]) -> list[str]:
    """Return a file, or the image files that match a pattern, in order."""
    if os.path.exists(name) or not glob.has_magic(name):
        check_exists(name)
        if os.path.isdir(name):
            raise ValueError(f"{name!r} is a folder; give one folder alone, or files and patterns such as {name}/*.jpg")
        return [name]
    suffixes = suffixes_of(formats)
    return sorted(path for path in glob.glob(name, recursive=True) if path.lower().endswith(suffixes))
