"""Contact sheets: many small images on one large image, with names and findings."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import torch
from PIL import Image, ImageDraw, ImageFont
from torch import Tensor
from torchvision.utils import make_grid, save_image

from conmim_lightning.data.images.decode import Decoder
from conmim_lightning.data.images.files import BrokenImageError
from conmim_lightning.data.samplers.epoch import SampleKey
from conmim_lightning.data.sources.base import Source
from conmim_lightning.data.transforms.crop import CenterSquare
from conmim_lightning.text import displayable

_PADDING = 4  # pixels
_LINE = 11  # pixels of a line of text
_GREY, _RED = 96, (220, 40, 40)  # colours of the crossed square for a broken image


def contact_sheet(
    source: Source,
    decoder: Decoder,
    rows: Sequence[Sequence[int]],
    path: Path,
    *,
    findings: Mapping[int, str] | None = None,
    side: int = 96,
) -> None:
    """Write a contact sheet of images as PNG, with the end of each name, and below it in red what was found.

    A broken image is a crossed grey square.

    Args:
        source: source of the images.
        decoder: decoder of the image bytes.
        rows: indices of the images, row by row; short rows end in white.
        path: file to write.
        findings: words by index, such as "near".
        side: pixels per side of a square.
    """
    columns, square = max(map(len, rows)), CenterSquare(side)
    white = torch.full((3, side + 2 * _LINE, side), 255, dtype=torch.uint8)
    squares = []
    for row in rows:
        for index in row:
            caption = _caption(source.name(index), (findings or {}).get(index, ""), side)
            squares.append(torch.cat([_square(source, decoder, index, square), caption], 1))
        squares += [white] * (columns - len(row))
    path.parent.mkdir(parents=True, exist_ok=True)
    save_image(make_grid(torch.stack(squares).float() / 255, nrow=columns, padding=_PADDING, pad_value=1), path)


def _caption(name: str, finding: str, side: int) -> Tensor:
    """Return two lines of text, (3, 2 lines, side) uint8: the end of a name, and a finding in red."""
    strip = Image.new("RGB", (side, 2 * _LINE), "white")
    draw, font = ImageDraw.Draw(strip), ImageFont.load_default(_LINE - 2)
    text = displayable(name)
    while text and draw.textlength(text, font) > side:
        text = text[1:]
    draw.text((0, 0), text, "black", font)
    draw.text((0, _LINE), finding, _RED, font)
    return torch.from_numpy(np.array(strip)).permute(2, 0, 1)


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
