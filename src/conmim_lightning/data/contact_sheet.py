"""Many small images on one large one."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from conmim_lightning.data.datasets import central_square
from conmim_lightning.data.decode import Decoder
from conmim_lightning.data.sources import Source

_BETWEEN = 4  # pixels
_GREY = 96  # where nothing can be shown


def contact_sheet(
    source: Source, decoder: Decoder, rows: Sequence[Sequence[int]], path: Path, *, side: int = 96
) -> None:
    """Write a sheet of images as PNG, a grey square where one is broken.

    Args:
        source: images.
        decoder: of their bytes.
        rows: numbers of the images, row by row.
        path: file to write.
        side: of a square in pixels.
    """
    step = side + _BETWEEN
    sheet = np.full((step * len(rows) + _BETWEEN, step * max(map(len, rows)) + _BETWEEN, 3), 255, np.uint8)
    for row, numbers in enumerate(rows):
        for column, number in enumerate(numbers):
            top, left = _BETWEEN + row * step, _BETWEEN + column * step
            sheet[top : top + side, left : left + side] = _square(source, decoder, number, side)
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(sheet).save(path)


def _square(source: Source, decoder: Decoder, number: int, side: int) -> NDArray[np.uint8]:
    """(side, side, 1 or 3)."""
    square = central_square(source, number, side, decoder)
    return np.full((side, side, 1), _GREY, np.uint8) if square is None else square.permute(1, 2, 0).numpy()[..., :3]
