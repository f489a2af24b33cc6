"""Drawing what a dense task answers onto its image."""

import colorsys
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

_GOLDEN = 0.618033988749895
_WIDTH = 480  # pixels of a panel, at least
_ROW = 18  # pixels of a line of a legend


def colours(count: int) -> NDArray[np.uint8]:
    """(count, 3) colours that neighbours tell apart."""
    found = [
        colorsys.hsv_to_rgb((number * _GOLDEN) % 1, (1.0, 0.6)[number // 7 % 2], (1.0, 0.75)[number // 3 % 2])
        for number in range(count)
    ]
    return (np.asarray(found).reshape(-1, 3) * 255).astype(np.uint8)


def as_picture(pixels: Any) -> NDArray[np.uint8]:
    """(C, H, W) uint8 tensor as (H, W, 3)."""
    values = np.asarray(pixels).transpose(1, 2, 0)
    return np.repeat(values, 3, 2) if values.shape[2] == 1 else values[..., :3]


def over(picture: NDArray[np.uint8], classes: NDArray[Any], strength: float = 0.6) -> NDArray[np.uint8]:
    """Colours of classes over a picture.

    Args:
        picture: (H, W, 3).
        classes: (H, W) from 0; -1 leaves the picture as it is.
        strength: share of the colour.
    """
    palette = colours(int(classes.max(initial=0)) + 1)
    picture = np.repeat(picture.mean(2, keepdims=True), 3, 2)  # grey: colours are those of classes alone
    mixed = picture * (1 - strength) + palette[np.maximum(classes, 0)] * strength
    return np.where((classes >= 0)[..., None], mixed, picture).astype(np.uint8)


def drawn_objects(
    picture: NDArray[np.uint8], objects: Any, names: Sequence[str], scores: Sequence[float] | None = None
) -> NDArray[np.uint8]:
    """Boxes, masks, names and scores over a picture.

    Args:
        picture: (H, W, 3).
        objects: with ``boxes`` (n, 4), ``labels`` (n,) and ``masks`` (n, H, W) or none.
        names: of the classes.
        scores: of the objects; None where they are known for certain.
    """
    scale = max(1, round(_WIDTH / picture.shape[1]))
    palette, found = colours(len(names)), picture.astype(np.float32)
    labels = [int(label) for label in objects.labels]
    for mask, label in zip(np.asarray(objects.masks, bool), labels, strict=False):
        found[mask] = found[mask] * 0.5 + palette[label] * 0.5
    image = Image.fromarray(found.astype(np.uint8)).resize(
        (picture.shape[1] * scale, picture.shape[0] * scale), Image.Resampling.NEAREST
    )
    pen, font = ImageDraw.Draw(image), ImageFont.load_default(13)
    for number, (box, label) in enumerate(zip(np.asarray(objects.boxes) * scale, labels, strict=True)):
        colour = tuple(palette[label].tolist())
        left, top, right, bottom = box.tolist()
        pen.rectangle((left, top, max(left, right - 1), max(top, bottom - 1)), outline=colour, width=2)
        text = names[label] + ("" if scores is None else f" {scores[number]:.2f}")
        place = (left + 3, max(0, top - 15))
        pen.rectangle(pen.textbbox(place, text, font=font), fill=colour)
        pen.text(place, text, fill=_readable(palette[label]), font=font)
    return np.asarray(image)


def panel(parts: Sequence[tuple[str, NDArray[np.uint8]]], legend: Sequence[tuple[str, NDArray[np.uint8]]]) -> Any:
    """Pictures of one size side by side with titles, and a legend of names and colours below.

    Returns:
        A Pillow image.
    """
    height, width = parts[0][1].shape[:2]
    scale = max(1, round(_WIDTH / width))
    width, height = width * scale, height * scale
    columns = max(1, len(parts) * width // 160)
    rows = -(-len(legend) // columns)
    image = Image.new("RGB", (len(parts) * (width + 4) - 4, height + _ROW * (rows + 1) + 6), "white")
    pen, font = ImageDraw.Draw(image), ImageFont.load_default(13)
    for number, (title, picture) in enumerate(parts):
        left = number * (width + 4)
        pen.text((left + 2, 1), title, fill="black", font=font)
        shown = Image.fromarray(picture).resize((width, height), Image.Resampling.NEAREST)
        image.paste(shown, (left, _ROW))
    for number, (name, colour) in enumerate(legend):
        left, top = number % columns * 160, height + _ROW + 4 + number // columns * _ROW
        pen.rectangle((left + 2, top + 2, left + 14, top + 14), fill=tuple(colour.tolist()), outline="black")
        pen.text((left + 19, top), name[:20], fill="black", font=font)
    return image


def _readable(colour: NDArray[np.uint8]) -> str:
    return "black" if colour @ np.array([0.3, 0.6, 0.1]) > 130 else "white"
