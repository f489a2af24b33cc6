"""JPEGs that take as long to decode as photographs."""

import io
import os
import tarfile
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from conmim_lightning.data.checks import check_at_least
from conmim_lightning.data.sources.imagenet import wordnet_ids
from conmim_lightning.data.synthetic.make_once import make_once

_PER_SHARD = 500
_CANVAS = 2048


def write_photos(
    root: str | os.PathLike[str], *, count: int, width: int = 500, height: int = 375, seed: int = 0, names: int = 1
) -> None:
    """Write regions of a cloudy texture as ``folder/xx/*.jpg``, as ``list.txt`` and as ``shards/*.tar``.

    Quality 90 with chroma subsampling; 500 x 375 pixels take about 110 kB, like ImageNet's images.

    Args:
        root: folder to create.
        count: number of images, >= 1.
        width: width of the images in pixels, 8 to 4096.
        height: height of the images in pixels, 8 to 4096.
        seed: seed of the texture and its regions.
        names: number of names per image in the folder (hard links); the list and the shards have one name per image.

    Raises:
        ValueError: a number is out of range, or the folder holds other files.
    """
    check_at_least(1, names=names, count=count)
    _check_size(width, height)
    recipe = {"photos": count, "width": width, "height": height, "seed": seed} | ({"names": names} if names > 1 else {})
    make_once(root, recipe, lambda folder: _write(folder, count, width, height, names, np.random.default_rng(seed)))


def write_photo_classes(
    root: str | os.PathLike[str], *, train: int = 1, val: int = 1, width: int = 500, height: int = 375, seed: int = 0
) -> None:
    """Write texture JPEGs in ImageNet-1K's layout, ``{train,val}/<WordNet id>/*.JPEG``, to try a recipe at full size.

    Args:
        root: folder to create.
        train: number of training images for each of the 1,000 classes, >= 1.
        val: number of validation images per class, >= 1.
        width: width of the images in pixels, 8 to 4096.
        height: height of the images in pixels, 8 to 4096.
        seed: seed of the texture and its regions.

    Raises:
        ValueError: a number is out of range, or the folder holds other files.
    """
    check_at_least(1, train=train, val=val)
    _check_size(width, height)
    recipe = {"train": train, "val": val, "width": width, "height": height, "seed": seed, "classes": "imagenet-1k"}

    def write(folder: Path) -> None:
        rng = np.random.default_rng(seed)
        canvas = np.tile(clouds(_CANVAS, rng), (3, 3, 1))
        for split, count in (("train", train), ("val", val)):
            for name in wordnet_ids():
                for index in range(count):
                    _write_photo(canvas, folder / split / name / f"{name}_{index}.JPEG", width, height, rng)

    make_once(root, recipe, write)


def clouds(side: int, rng: np.random.Generator) -> NDArray[np.uint8]:
    """Return (side, side, 3) noise whose amplitude falls with the frequency as in photographs (1/f)."""
    frequency = np.hypot(np.fft.fftfreq(side)[:, None], np.fft.rfftfreq(side)[None])
    amplitude = 1 / np.maximum(frequency, 1 / side)
    fields = []
    for _ in range(4):  # one of brightness, three of colour
        phase = np.exp(2j * np.pi * rng.random(frequency.shape))
        field = np.fft.irfft2(amplitude * phase, (side, side))
        fields.append(field / field.std())
    mixed = 118 + 42 * (fields[0][..., None] + 0.4 * np.stack(fields[1:], -1)) + rng.normal(0, 7, (side, side, 1))
    return mixed.clip(0, 255).astype(np.uint8)


def _check_size(width: int, height: int) -> None:
    if not (8 <= width <= 2 * _CANVAS and 8 <= height <= 2 * _CANVAS):
        raise ValueError(f"photos have sides of 8 to {2 * _CANVAS} pixels, got {width} x {height}")


def _write_photo(canvas: NDArray[np.uint8], path: Path, width: int, height: int, rng: np.random.Generator) -> None:
    """Write a random region of the canvas."""
    top, left = rng.integers(0, 2 * _CANVAS - height + 1), rng.integers(0, 2 * _CANVAS - width + 1)
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(canvas[top : top + height, left : left + width]).save(path, quality=90)


def _write(folder: Path, count: int, width: int, height: int, links: int, rng: np.random.Generator) -> None:
    canvas = np.tile(clouds(_CANVAS, rng), (3, 3, 1))
    names = [f"{index // 100:02d}/{index:06d}.jpg" for index in range(count)]
    for name in names:
        _write_photo(canvas, folder / "folder" / name, width, height, rng)
        for link in range(1, links):
            path = folder / "folder" / f"{link:03d}_{name}"
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
