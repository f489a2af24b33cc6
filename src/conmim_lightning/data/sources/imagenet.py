"""ImageNet-1K: its class order and its layouts."""

from functools import cache
from pathlib import Path

from timm.data import ImageNetInfo

from conmim_lightning.data.sources.base import FileSource
from conmim_lightning.data.sources.folder import FolderSource
from conmim_lightning.data.sources.manifest import ManifestSource


@cache
def wordnet_ids() -> tuple[str, ...]:
    """Return the WordNet ids of the 1,000 classes in the standard order, i.e. sorted."""
    return tuple(ImageNetInfo("imagenet-1k").label_names())


def imagenet_source(root: Path, split: str, *, image_list: str | None, index_dir: str | None) -> FileSource:
    """Open the labelled images of one split.

    Args:
        root: folder with ``train`` and ``val``.
        split: "train" or "val".
        image_list: list file relative to root, in the official format: one ``path label`` per line, paths relative to
            ``root/split``. None uses the folders below ``root/split``, named by WordNet ids.
        index_dir: folder to store the index of a scan in; None does not store it.

    Raises:
        ValueError: a folder or list is missing, or a class is not one of ImageNet's.
    """
    if image_list is None:
        return FolderSource(root / split, labelled=True, classes=wordnet_ids(), index_dir=index_dir)
    source = ManifestSource(root / split, manifest=str((root / image_list).absolute()), classes=wordnet_ids())
    if source.labels is None:
        raise ValueError(
            f"list {str(root / image_list)!r} has no labels; a line is a path, a space and a number from 0 to 999"
        )
    return source
