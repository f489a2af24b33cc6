"""ImageNet-1K: its class order, its layouts."""

from functools import cache
from pathlib import Path

from timm.data import ImageNetInfo

from conmim_lightning.data.folder import FolderSource
from conmim_lightning.data.manifest import ManifestSource
from conmim_lightning.data.sources import FileSource


@cache
def wordnet_ids() -> tuple[str, ...]:
    """WordNet ids of the 1,000 classes in the standard order, which is that of their names."""
    return tuple(ImageNetInfo("imagenet-1k").label_names())


def imagenet_source(root: Path, part: str, *, image_list: str | None, index_dir: str | None) -> FileSource:
    """Labelled images of one part.

    Args:
        root: folder with ``train`` and ``val``.
        part: "train" or "val".
        image_list: list in the official format, ``path label`` a line, paths relative to ``root/part``; itself relative
            to root. None takes the folders below ``root/part``, named by WordNet ids.
        index_dir: where to keep what a scan found.

    Raises:
        ValueError: a folder or list is missing, or a class is none of ImageNet's.
    """
    if image_list is None:
        return FolderSource(root / part, labelled=True, classes=wordnet_ids(), index_dir=index_dir)
    source = ManifestSource(root / part, manifest=str((root / image_list).absolute()), classes=wordnet_ids())
    if source.labels is None:
        raise ValueError(
            f"list {str(root / image_list)!r} has no labels; a line is a path, a blank and a number from 0 to 999"
        )
    return source
