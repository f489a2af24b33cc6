"""Labelled collections in splits: train, val, test."""

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Protocol

from conmim_lightning.data.images.files import check_folder
from conmim_lightning.data.images.formats import DEFAULT_FORMATS
from conmim_lightning.data.sources.base import Source
from conmim_lightning.data.sources.folder import FolderSource
from conmim_lightning.data.sources.imagenet import imagenet_source, wordnet_ids
from conmim_lightning.data.sources.manifest import ManifestSource
from conmim_lightning.data.sources.selection import Selection
from conmim_lightning.data.sources.split_paths import split_hint


class Splits(Protocol):
    """Interface that opens the splits of an annotated collection."""

    def __call__(self, root: str, split: str, classes: Sequence[str] | None) -> Source:
        """Open a split.

        Args:
            root: path of the collection.
            split: name of the split.
            classes: names of the classes by index, as in the training split; None for the classes of this split.
        """
        ...

    def count_classes(self, root: str, split: str) -> int:
        """Return the number of classes; should be fast."""
        ...


class FolderSplits:
    """Splits in folders, ``root/<split>/<class>/...``.

    Args:
        index_dir: folder to store the indexes of scans in; null does not store them.
        formats: see ``FolderSource``.
        include_hidden: see ``FolderSource``.
    """

    def __init__(
        self,
        *,
        index_dir: str | None = None,
        formats: Sequence[str] = DEFAULT_FORMATS,
        include_hidden: bool = False,
    ) -> None:
        self.index_dir = index_dir
        self.names = {"formats": tuple(formats), "include_hidden": include_hidden}
        self.selection = Selection(formats, include_hidden)

    def __call__(self, root: str, split: str, classes: Sequence[str] | None) -> Source:
        """Open the folder of a split; ValueError if it is missing or one of its class folders has no image."""
        folder = Path(root, split)
        _check_split_folder(folder)
        source = FolderSource(folder, labelled=True, classes=classes, index_dir=self.index_dir, **self.names)
        known = set(source.classes if classes is None else classes)
        if empty := sorted(set(self._class_folders(folder)) - known):
            raise ValueError(f"class folders without an image in {str(folder)!r}: {', '.join(empty[:5])}")
        return source

    def count_classes(self, root: str, split: str) -> int:
        """Return the number of class folders; ValueError if there are fewer than 2."""
        folder = Path(root, split)
        _check_split_folder(folder)
        count = len(self._class_folders(folder))
        if count < 2:
            raise ValueError(f"folder {str(folder)!r} holds {count} class folders; at least 2 are needed")
        return count

    def _class_folders(self, folder: Path) -> list[str]:
        entries = os.scandir(folder)
        return [entry.name for entry in entries if entry.is_dir() and not self.selection.leaves_hidden(entry.name)]


class ManifestSplits:
    """Splits with one list of images each; paths are relative to root.

    Args:
        lists: list file of each split, relative to root or absolute.
        path_column: name of the column with the paths, for tables.
        label_column: name of the column with the classes, for tables.
    """

    def __init__(self, *, lists: dict[str, str], path_column: str = "path", label_column: str | None = None) -> None:
        self.lists = dict(lists)
        self.path_column = path_column
        self.label_column = label_column

    def __call__(self, root: str, split: str, classes: Sequence[str] | None) -> Source:
        """Open the list of a split; ValueError if it is missing or has no labels."""
        if split not in self.lists:
            raise ValueError(f"no list for split {split!r}; there are {', '.join(self.lists)}")
        source = ManifestSource(
            root,
            manifest=self.lists[split],
            classes=classes,
            path_column=self.path_column,
            label_column=self.label_column,
        )
        if source.labels is None:
            raise ValueError(
                f"manifest {self.lists[split]!r} has no labels; a line is a path, a space and an integer; of a table "
                "choose data.source.label_column"
            )
        return source

    def count_classes(self, root: str, split: str) -> int:
        """Return the number of classes in the list of a split."""
        return len(self(root, split, None).classes)


class ImageNetSplits:
    """ImageNet-1K in its standard class order.

    Args:
        lists: official list by split (train_map.txt, val_map.txt), relative to root; a split without a list is read
            from folders named by WordNet id.
        index_dir: folder to store the indexes of scans in; null does not store them.
    """

    def __init__(self, *, lists: dict[str, str | None] | None = None, index_dir: str | None = None) -> None:
        self.lists = dict(lists or {})
        self.index_dir = index_dir

    def __call__(self, root: str, split: str, classes: Sequence[str] | None) -> Source:
        """Open a split."""
        return imagenet_source(Path(root), split, image_list=self.lists.get(split), index_dir=self.index_dir)

    def count_classes(self, root: str, split: str) -> int:
        """Number of classes, 1,000."""
        return len(wordnet_ids())


def _check_split_folder(folder: Path) -> None:
    """Raise ValueError unless the folder of a split exists; the message names the other folders."""
    if folder.parent.is_dir() and not folder.exists():
        raise ValueError(f"{str(folder.parent)!r} has no folder {folder.name!r}{split_hint(folder.parent, '{split}')}")
    check_folder(folder)
