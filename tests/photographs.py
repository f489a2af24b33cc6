"""Photographs as files."""

from pathlib import Path

from PIL import Image
from sklearn.datasets import load_sample_image


def size_of(path: Path) -> tuple[int, int]:
    """Height and width of an image file."""
    with Image.open(path) as image:
        return image.size[::-1]


def photographs(folder: Path) -> list[Path]:
    """Two photographs of different sizes as files."""
    paths = []
    for name in ("china.jpg", "flower.jpg"):
        pixels = load_sample_image(name)
        paths.append(folder / name)
        Image.fromarray(pixels[:200] if "china" in name else pixels[:, :300]).save(paths[-1], quality=95)
    return paths
