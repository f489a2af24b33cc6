"""JPEGs that cost as much to decode as photographs, made where they are missing."""

import io
import os
import tarfile
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from conmim_lightning.data.imagenet import wordnet_ids
from conmim_lightning.data.made import make_once

_PER_SHARD = 500
_CANVAS = 2048


def write_photos(
    root: str | os.PathLike[str], *, count: int, width: int = 500, height: int = 375, seed: int = 0, names: int = 1
) -> None:
    """Write parts of a cloudy texture as ``folder/xx/*.jpg``, as ``list.txt`` and as ``shards/*.tar``.

    Quality 90 and the usual halved colours; 500 x 375 pixels take about 110 kB, as ImageNet's do.

    Args:
        root: folder to make.
        count: of images.
        width: in pixels, at most 4096.
        height: likewise.
        seed: of the texture and its parts.
        names: that each image has in the folder, as hard links; the list and the shards have one.

    Raises:
        ValueError: a number is out of range, or the folder holds something else.
    """
    if names < 1:
        raise ValueError(f"photos need at least one name, got {names}")
    if count < 1 or not 8 <= width <= 2 * _CANVAS or not 8 <= height <= 2 * _CANVAS:
        raise ValueError(f"photos need a count >= 1 and sides of 8 to {2 * _CANVAS}, got {count}, {width} x {height}")
    recipe = {"photos": count, "width": width, "height": height, "seed": seed} | ({"names": names} if names > 1 else {})
    make_once(root, recipe, lambda folder: _write(folder, count, width, height, names, np.random.default_rng(seed)))


def write_photo_classes(
    root: str | os.PathLike[str], *, train: int = 1, val: int = 1, width: int = 500, height: int = 375, seed: int = 0
) -> None:
    """Write such photos in ImageNet-1K's layout, ``{train,val}/<WordNet id>/*.JPEG``: to try a recipe at full shape.

    Args:
        root: folder to make.
        train: training images of each of the 1,000 classes, >= 1.
        val: validation images of each class, >= 1.
        width: in pixels, at most 4096.
        height: likewise.
        seed: of the texture and its parts.

    Raises:
        ValueError: a number is out of range, or the folder holds something else.
    """
    if train < 1 or val < 1 or not 8 <= width <= 2 * _CANVAS or not 8 <= height <= 2 * _CANVAS:
        raise ValueError(
            f"photos need train >= 1, val >= 1 and sides of 8 to {2 * _CANVAS}, got {train}, {val}, {width} x {height}"
        )
    recipe = {"train": train, "val": val, "width": width, "height": height, "seed": seed, "classes": "imagenet-1k"}

    def write(folder: Path) -> None:
        random = np.random.default_rng(seed)
        canvas = np.tile(clouds(_CANVAS, random), (3, 3, 1))
        for part, count in (("train", train), ("val", val)):
            for name in wordnet_ids():
                for number in range(count):
                    _write_photo(canvas, folder / part / name / f"{name}_{number}.JPEG", width, height, random)

    make_once(root, recipe, write)


def clouds(side: int, random: np.random.Generator) -> NDArray[np.uint8]:
    """(side, side, 3) noise whose amplitude falls with frequency as in photographs (1/f)."""
    frequency = np.hypot(np.fft.fftfreq(side)[:, None], np.fft.rfftfreq(side)[None])
    amplitude = 1 / np.maximum(frequency, 1 / side)
    grey, tint = [], []
    for part, channels in ((grey, 1), (tint, 3)):
        for _ in range(channels):
            phase = np.exp(2j * np.pi * random.random(frequency.shape))
            field = np.fft.irfft2(amplitude * phase, (side, side))
            part.append(field / field.std())
    stacked = 118 + 42 * (np.stack(grey * 3, -1) + 0.4 * np.stack(tint, -1)) + random.normal(0, 7, (side, side, 1))
    return stacked.clip(0, 255).astype(np.uint8)


def _write_photo(canvas: NDArray[np.uint8], path: Path, width: int, height: int, random: np.random.Generator) -> None:
    """A random part of the canvas."""
    top, left = random.integers(0, 2 * _CANVAS - height + 1), random.integers(0, 2 * _CANVAS - width + 1)
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(canvas[top : top + height, left : left + width]).save(path, quality=90)


def _write(folder: Path, count: int, width: int, height: int, links: int, random: np.random.Generator) -> None:
    canvas = np.tile(clouds(_CANVAS, random), (3, 3, 1))
    names = [f"{number // 100:02d}/{number:06d}.jpg" for number in range(count)]
    for name in names:
        _write_photo(canvas, folder / "folder" / name, width, height, random)
        for number in range(1, links):
            path = folder / "folder" / f"{number:03d}_{name}"
            path.parent.mkdir(exist_ok=True)
            path.hardlink_to(folder / "folder" / name)
    (folder / "list.txt").write_text("".join(f"{name} 0\n" for name in names))
    (folder / "shards").mkdir()
    for first in range(0, count, _PER_SHARD):
        with tarfile.open(folder / "shards" / f"{first // _PER_SHARD:05d}.tar", "w") as archive:
            for name in names[first : first + _PER_SHARD]:
                content = (folder / "folder" / name).read_bytes()
                info = tarfile.TarInfo(Path(name).name)
                info.size = len(content)
                archive.addfile(info, io.BytesIO(content))
