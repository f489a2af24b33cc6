"""Resizing images and class maps."""

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn.functional import interpolate

Window = tuple[slice, slice]
"""Slices of rows and columns."""


def rounded_sides(sides: Sequence[int], factor: float) -> list[int]:
    """Return height and width times a factor, rounded half up, at least 1."""
    return [max(1, int(side * factor + 0.5)) for side in sides]


def resize_longest(pixels: Tensor, longest: float) -> Tensor:
    """Resize (C, H, W) uint8 so that the longer side has this many pixels, bilinear with antialiasing."""
    sides = pixels.shape[1:]
    target = rounded_sides(sides, longest / max(sides))
    if target == list(sides):
        return pixels
    return interpolate(pixels[None], target, mode="bilinear", antialias=True)[0]


def resize_nearest(label: Tensor, target: Sequence[int], window: Window = (slice(None), slice(None))) -> Tensor:
    """Resize (..., H, W) of any dtype by nearest neighbour.

    Args:
        label: class map or mask to resize.
        target: height and width of the result.
        window: rows and columns of the result to compute.
    """
    rows, columns = (
        ((torch.arange(wanted)[chosen] + 0.5) * side / wanted).long().clamp(max=side - 1)
        for wanted, side, chosen in zip(target, label.shape[-2:], window, strict=True)
    )
    return label[..., rows, :][..., columns]
