"""Pairs of an image file and the file of its class map."""

import os
from collections.abc import Collection, Sequence
from pathlib import Path
from typing import Literal

import numpy as np

from conmim_lightning.data.images.formats import DEFAULT_FORMATS
from conmim_lightning.data.sources.base import IndexedSource, Subset
from conmim_lightning.data.sources.folder import FolderSource
from conmim_lightning.data.sources.split_paths import for_split, split_hint

OnFault = Literal["error", "drop"]


class ImageMapPairs:
    """Pairs ``images/<split>/x.jpg`` and ``annotations/<split>/x.png``.

    Args:
        root: folder that contains both.
        split: "training" or "validation", or another name used in both.
        images: folder of the images below root, with "{split}" for the split.
        maps: folder of the class maps below root, with "{split}" for the split.
        suffix: end of a map's name, after the image's stem.
        image_suffix: end of an image's stem that its map's name lacks, such as "_leftImg8bit" in Cityscapes.
        missing: treatment of images without a class map: "error" raises, "drop" leaves them out with a note, "keep"
            keeps them for ``inspect``.
        excluded: names of images that need no class map.
        index_dir: folder to store the index of the images in; null does not store it.
        formats: see ``FolderSource``.
        include_hidden: see ``FolderSource``.

    Raises:
        ValueError: a folder is missing or empty, or an image has no class map.
    """

    def __init__(
        self,
        root: str | os.PathLike[str],
        split: str,
        *,
        images: str = "images/{split}",
        maps: str = "annotations/{split}",
        suffix: str = ".png",
        image_suffix: str = "",
        missing: OnFault | Literal["keep"] = "error",
        excluded: Collection[str] = (),
        index_dir: str | None = None,
        formats: Sequence[str] = DEFAULT_FORMATS,
        include_hidden: bool = False,
    ) -> None:
        self.annotations = Path(root) / for_split(maps, split)
        self.suffix, self.image_suffix = suffix, image_suffix
        folder = Path(root) / for_split(images, split)
        if os.path.isdir(root) and not folder.exists():
            raise ValueError(f"image folder {str(folder)!r} does not exist{split_hint(root, images)}")
        self.images: IndexedSource = FolderSource(
            folder, index_dir=index_dir, formats=formats, include_hidden=include_hidden
        )
        if missing != "keep":
            self._leave_out(missing, excluded)

    def __len__(self) -> int:
        """Number of pairs."""
        return len(self.images)

    def map_path(self, index: int) -> Path:
        """Path of an image's class map."""
        name = Path(self.images.name(index))
        stem = name.stem.removesuffix(self.image_suffix)
        return self.annotations / name.with_name(f"{stem}{self.suffix}")

    def _leave_out(self, missing: OnFault, excluded: Collection[str]) -> None:
        """Leave out the images without a class map; ValueError if that is not allowed or none remains."""
        lacking = [index for index in range(len(self.images)) if not self.map_path(index).is_file()]
        faults = [index for index in lacking if self.images.name(index) not in excluded]
        if not faults:
            return
        text = (
            f"{len(faults)} of {len(self.images)} images below {self.images.root!r} have no class map, the first is "
            f"{self.images.name(faults[0])!r}; expected {str(self.map_path(faults[0]))!r}"
        )
        if missing == "error" or len(faults) == len(self.images):
            raise ValueError(f"{text} (data.source.missing=drop leaves such images out)")
        rest = Subset(self.images, np.setdiff1d(np.arange(len(self.images)), faults))
        rest.notes = [*self.images.notes, text.replace("have no class map", "are left out, as they have no class map")]
        self.images = rest
