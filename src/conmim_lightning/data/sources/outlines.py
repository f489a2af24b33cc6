"""Outlines of objects in COCO's format: polygons and run lengths."""

from collections.abc import Mapping, Sequence
from math import isfinite
from operator import mul
from typing import Any, NamedTuple

try:
    from faster_coco_eval.core import mask as _codec  # type: ignore[import-not-found]
except ImportError:
    _codec = None

_MAX_COORDINATE = 10  # largest coordinate of a polygon, in units of the image's longer side
_MIN_NUMBERS = 6  # smallest number of coordinates of a polygon: three points
_CHARACTERS = range(64)  # values of a character of compressed run lengths
_MAX_CHARACTERS = 7  # characters per number
_SHOWN = 80
_THIN = 2.0  # pixels; thinner polygons may cover no pixel, and those that cross themselves have other areas
_NUMBERS = {int, float}

Outline = Any
"""A list of polygons [x, y, x, y, ...] in pixels, or run lengths {"size", "counts"}."""


class Extent(NamedTuple):
    """Smallest box around an outline, within the image, and its area, in pixels."""

    left: float
    top: float
    right: float
    bottom: float
    area: float


def extent(outline: Outline, height: int, width: int) -> Extent:
    """Return the extent of an outline in an image of this size.

    Raises:
        ValueError: the outline has another format or size, or covers nothing of the image.
    """
    box = _polygon_extent if isinstance(outline, list) else _run_extent
    result = box(outline, height, width)
    thin = min(result.right - result.left, result.bottom - result.top, result.area) < _THIN
    if thin and not _covers_pixels(outline, result, height, width):
        raise ValueError("the segmentation covers nothing of the image")
    return result


def valid_polygons(outline: Sequence[Any], height: int, width: int) -> list[list[float]]:
    """Return the polygons of an outline; pieces of two points are ignored if there are others.

    Raises:
        ValueError: there is none, or a coordinate is no number in or near the image.
    """
    polygons = [p for p in outline if isinstance(p, list) and len(p) >= _MIN_NUMBERS and len(p) % 2 == 0]
    if not polygons:
        raise ValueError(f"polygons need at least three points of two numbers each, got {str(outline)[:_SHOWN]}")
    reach = _MAX_COORDINATE * max(height, width)
    for polygon in polygons:
        are_numbers = set(map(type, polygon)) <= _NUMBERS
        if not (are_numbers and -reach <= min(polygon) and max(polygon) <= reach and isfinite(sum(polygon))):
            raise ValueError(f"polygons have pixel coordinates in or near the image, got {str(outline)[:_SHOWN]}")
    return polygons


def run_lengths(outline: Outline, height: int, width: int) -> list[int]:
    """Return the numbers of pixels without and with the object, alternating, column by column.

    Raises:
        ValueError: the outline is not run lengths that cover an image of this size.
    """
    counts = _counts(outline, height, width)
    if isinstance(counts, str):
        counts = _uncompressed(counts)
    if not isinstance(counts, list) or not all(type(count) is int and count >= 0 for count in counts):
        raise ValueError(f"run lengths are whole numbers from 0, got {str(counts)[:_SHOWN]}")
    if sum(counts) != height * width:
        raise ValueError(f"run lengths cover {sum(counts)} of {height * width} pixels")
    return counts


def encoded_outline(outline: Outline, height: int, width: int) -> Any:
    """Convert an outline that ``extent`` accepts to faster-coco-eval's compressed run lengths.

    Raises:
        ValueError: the outline has another format or size, or faster-coco-eval is not installed.
    """
    codec = mask_codec()
    if isinstance(outline, list):
        return codec.merge(codec.frPyObjects(valid_polygons(outline, height, width), height, width))
    counts = _counts(outline, height, width)
    if isinstance(counts, str):
        return {"size": [height, width], "counts": counts}
    counts = run_lengths(outline, height, width)
    return codec.frPyObjects({"size": [height, width], "counts": counts}, height, width)


def mask_codec() -> Any:
    """Return faster-coco-eval's module for run lengths.

    Raises:
        ValueError: faster-coco-eval is not installed.
    """
    if _codec is None:
        raise ValueError("masks of objects need faster-coco-eval: pip install 'conmim-lightning[coco]'")
    return _codec


def _polygon_extent(outline: list[Any], height: int, width: int) -> Extent:
    polygons = valid_polygons(outline, height, width)
    across = [number for polygon in polygons for number in polygon[0::2]]
    down = [number for polygon in polygons for number in polygon[1::2]]
    return Extent(
        max(min(across), 0.0),
        max(min(down), 0.0),
        min(max(across), float(width)),
        min(max(down), float(height)),
        sum(_area(polygon) for polygon in polygons),
    )


def _covers_pixels(outline: Outline, around: Extent, height: int, width: int) -> bool:
    """Return whether an outline covers any pixel, by drawing it; without faster-coco-eval, by its area."""
    if min(around.right - around.left, around.bottom - around.top) <= 0:
        return False
    if not isinstance(outline, list) or _codec is None:
        return around.area > 0
    return bool(_codec.area(encoded_outline(outline, height, width)) > 0)


def _area(polygon: list[float]) -> float:
    across, down = polygon[0::2], polygon[1::2]
    ahead = sum(map(mul, across, [*down[1:], down[0]]))
    return abs(ahead - sum(map(mul, [*across[1:], across[0]], down))) / 2


def _run_extent(outline: Outline, height: int, width: int) -> Extent:
    left, right, top, bottom, area, position = width, 0, height, 0, 0, 0
    for number, count in enumerate(run_lengths(outline, height, width)):
        if number % 2 and count:
            first, last = position, position + count - 1
            left, right, area = min(left, first // height), max(right, last // height + 1), area + count
            spans = first // height != last // height
            top, bottom = min(top, 0 if spans else first % height), max(bottom, height if spans else last % height + 1)
        position += count
    return Extent(left, top, right, bottom, area)


def _counts(outline: Outline, height: int, width: int) -> object:
    """Return the counts of run lengths for an image of this size, as they are."""
    if not isinstance(outline, Mapping) or "counts" not in outline or "size" not in outline:
        raise ValueError(f"a segmentation is a list of polygons or run lengths, got {str(outline)[:_SHOWN]}")
    size = outline["size"]
    if not isinstance(size, list) or size != [height, width]:
        raise ValueError(f"run lengths are for {size}, height and width of the image are {[height, width]}")
    return outline["counts"]


def _uncompressed(text: str) -> list[int]:
    """Return the numbers of COCO's compressed run lengths: groups of five bits; from the third on, differences."""
    counts: list[int] = []
    number = shift = 0
    for character in text:
        value = ord(character) - 48
        if value not in _CHARACTERS or shift >= 5 * _MAX_CHARACTERS:
            raise ValueError(f"compressed run lengths have the character {character!r} at an invalid place")
        number |= (value & 31) << shift
        shift += 5
        if not value & 32:
            number -= (value & 16) and 1 << shift
            counts.append(number + (counts[-2] if len(counts) > 2 else 0))
            number = shift = 0
    if shift:
        raise ValueError("compressed run lengths end within a number")
    return counts
