"""Labelled collections in parts: train, val, test."""

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Protocol

from conmim_lightning.data.files import check_folder
from conmim_lightning.data.folder import FolderSource
from conmim_lightning.data.imagenet import imagenet_source
from conmim_lightning.data.manifest import ManifestSource
from conmim_lightning.data.sources import Source


class Parts(Protocol):
    """Finds a labelled part of a collection."""

    def __call__(self, root: str, part: str, classes: Sequence[str] | None) -> Source:
        """A part.

        Args:
            root: of the collection.
            part: its name.
            classes: names of the classes by number, as those of the training part; None takes what is found.
        """
        ...


class FolderParts:
    """``root/<part>/<class>/...``.

    Args:
        index_dir: where to keep what scans found; null for nowhere.
    """

    def __init__(self, *, index_dir: str | None = None) -> None:
        self.index_dir = index_dir

    def __call__(self, root: str, part: str, classes: Sequence[str] | None) -> Source:
        """The folder of that name; ValueError if there is none, or a class folder in it has no image."""
        place = Path(root, part)
        check_folder(place)
        source = FolderSource(place, labelled=True, classes=classes, index_dir=self.index_dir)
        folders = {entry.name for entry in os.scandir(place) if entry.is_dir() and not entry.name.startswith(".")}
        known = set(source.classes if classes is None else classes)
        if empty := sorted(folders - known):
            raise ValueError(f"class folders without an image in {str(place)!r}: {', '.join(empty[:5])}")
        return source


class ManifestParts:
    """A list of images for each part; paths relative to root.

    Args:
        lists: list of each part, relative to root or absolute.
        path_column: of tables.
        label_column: of tables.
    """

    def __init__(self, *, lists: dict[str, str], path_column: str = "path", label_column: str | None = None) -> None:
        self.lists = dict(lists)
        self.columns = {"path_column": path_column, "label_column": label_column}

    def __call__(self, root: str, part: str, classes: Sequence[str] | None) -> Source:
        """The images of that list; ValueError if there is none, or it has no labels."""
        if part not in self.lists:
            raise ValueError(f"no list for part {part!r}; there are {', '.join(self.lists)}")
        source = ManifestSource(root, manifest=self.lists[part], classes=classes, **self.columns)
        if source.labels is None:
            raise ValueError(
                f"manifest {self.lists[part]!r} has no labels; a line is a path, a blank and a whole number, or name "
                "data.source.label_column of a table"
            )
        return source


class ImageNetParts:
    """ImageNet-1K in its standard class order.

    Args:
        lists: official list of a part (train_map.txt, val_map.txt), relative to root; a part without one is taken
            from folders named by WordNet id.
        index_dir: where to keep what scans found; null for nowhere.
    """

    def __init__(self, *, lists: dict[str, str | None] | None = None, index_dir: str | None = None) -> None:
        self.lists = dict(lists or {})
        self.index_dir = index_dir

    def __call__(self, root: str, part: str, classes: Sequence[str] | None) -> Source:
        """The images of that part."""
        return imagenet_source(Path(root), part, image_list=self.lists.get(part), index_dir=self.index_dir)
