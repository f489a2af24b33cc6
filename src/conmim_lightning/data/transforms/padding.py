"""Filling an image up to a square."""

from collections.abc import Sequence

import torch
from torch import Tensor


def fill_of(mean: Sequence[float]) -> list[int]:
    """Values of the mean colour, 0 to 255, so that after normalisation the filling is about 0."""
    return [min(255, max(0, round(255 * value))) for value in mean]


def padded(pixels: Tensor, size: int, fill: Sequence[int]) -> Tensor:
    """(C, H, W) filled up below and to the right to (C, size, size), with a value a channel."""
    if tuple(pixels.shape[1:]) == (size, size):
        return pixels.contiguous()
    found = torch.tensor(list(fill), dtype=pixels.dtype).view(-1, 1, 1).repeat(1, size, size)
    found[:, : pixels.shape[1], : pixels.shape[2]] = pixels
    return found
