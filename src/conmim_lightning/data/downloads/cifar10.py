"""CIFAR-10 as image files in class folders (Krizhevsky 2009): 50,000 training and 10,000 test images, 32 x 32."""

import os
import shutil
from pathlib import Path

from torchvision.datasets import CIFAR10

from conmim_lightning.data.synthetic.make_once import make_once

CLASSES = ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck")
_SPLITS = {"train": True, "test": False}


def prepare_cifar10(root: str | os.PathLike[str]) -> None:
    """Download CIFAR-10 with torchvision and write it as PNG files, unless the folder already holds its class folders.

    Args:
        root: folder with ``train/<class>/`` and ``test/<class>/``, or one to create.

    Raises:
        ValueError: the folder holds other files, or the download failed.
    """
    folder = Path(root)
    if any((folder / split).is_dir() for split in _SPLITS):
        _check(folder)
        return
    make_once(folder, {"cifar10": "png"}, _download)


def _check(folder: Path) -> None:
    """Raise ValueError unless all splits have the ten classes."""
    for split in _SPLITS:
        present = sorted(path.name for path in (folder / split).iterdir()) if (folder / split).is_dir() else []
        if missing := [name for name in CLASSES if name not in present]:
            raise ValueError(
                f"{str(folder / split)!r} lacks the classes {', '.join(missing)}; CIFAR-10 needs train/<class>/ and"
                " test/<class>/; name another folder with data.root=, which is downloaded if it is missing"
            )


def _download(folder: Path) -> None:
    archive = folder / "archive"
    try:
        sets = {split: CIFAR10(str(archive), train=train, download=True) for split, train in _SPLITS.items()}
    except (OSError, RuntimeError) as error:  # URLError is an OSError
        raise ValueError(
            f"CIFAR-10 cannot be downloaded: {error}; name a folder that holds it with data.root="
        ) from error
    for split, images in sets.items():
        counts = dict.fromkeys(CLASSES, 0)
        for image, label in images:
            name = CLASSES[label]
            target = folder / split / name / f"{counts[name]:04d}.png"
            target.parent.mkdir(parents=True, exist_ok=True)
            image.save(target)
            counts[name] += 1
    shutil.rmtree(archive)
