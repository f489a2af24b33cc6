"""Contact sheets: many small images on one large image."""

from collections.abc import Sequence
from pathlib import Path

import torch
from torch import Tensor
from torchvision.utils import make_grid, save_image

from conmim_lightning.data.images.decode import Decoder
from conmim_lightning.data.images.files import BrokenImageError
from conmim_lightning.data.samplers.epoch import SampleKey
from conmim_lightning.data.sources.base import Source
from conmim_lightning.data.transforms.crop import CenterSquare

_PADDING = 4  # pixels
_GREY, _RED = 96, (220, 40, 40)  # colours of the crossed square for a broken image


def contact_sheet(
    source: Source, decoder: Decoder, rows: Sequence[Sequence[int]], path: Path, *, side: int = 96
) -> None:
    """Write a contact sheet of images as PNG; a broken image is a crossed grey square.

    Args:
        source: source of the images.
        decoder: decoder of the image bytes.
        rows: indices of the images, row by row; short rows end in white.
        path: file to write.
        side: pixels per side of a square.
    """
    columns, square = max(map(len, rows)), CenterSquare(side)
    white = torch.full((3, side, side), 255, dtype=torch.uint8)
    squares = [
        _square(source, decoder, row[column], square) if column < len(row) else white
        for row in rows
        for column in range(columns)
    ]
    path.parent.mkdir(parents=True, exist_ok=True)
    save_image(make_grid(torch.stack(squares).float() / 255, nrow=columns, padding=_PADDING, pad_value=1), path)


def _square(source: Source, decoder: Decoder, index: int, square: CenterSquare) -> Tensor:
    """Return the central square of an image, or a crossed grey square if it is broken, (3, side, side) uint8."""
    try:
        pixels = square(decoder.open(source.read(SampleKey(0, index), decoder.max_bytes)))
    except BrokenImageError:
        pixels = torch.full((3, square.size, square.size), _GREY, dtype=torch.uint8)
        diagonal = torch.arange(square.size)
        for across in (diagonal, diagonal.flip(0)):
            pixels[:, diagonal, across] = torch.tensor(_RED, dtype=torch.uint8)[:, None]
    return (pixels[:3] if len(pixels) > 2 else pixels[:1]).expand(3, -1, -1)
