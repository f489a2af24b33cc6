"""Images with a class map each, in ADE20K's layout."""

import os
from pathlib import Path

from conmim_lightning.data.folder import FolderSource


class PairSource:
    """Pairs ``images/<part>/x.jpg`` and ``annotations/<part>/x.png``; 0 in a map is background or unlabelled.

    Args:
        root: the folder that holds ``images`` and ``annotations``.
        part: "training" or "validation", or another name used in both.

    Raises:
        ValueError: a folder is missing or empty, or an image has no class map.
    """

    def __init__(self, root: str | os.PathLike[str], part: str) -> None:
        self.images = FolderSource(Path(root) / "images" / part)
        self.annotations = Path(root) / "annotations" / part
        missing = [index for index in range(len(self.images)) if not self.map_path(index).is_file()]
        if missing:
            raise ValueError(
                f"{len(missing)} of {len(self.images)} images below {self.images.root!r} have no class map, the "
                f"first is {self.images.name(missing[0])!r}; expected {str(self.map_path(missing[0]))!r}"
            )

    def __len__(self) -> int:
        """Number of pairs."""
        return len(self.images)

    def map_path(self, index: int) -> Path:
        """Class map file of an image."""
        return self.annotations / Path(self.images.name(index)).with_suffix(".png")
