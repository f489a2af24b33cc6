"""Padding images to squares."""

from collections.abc import Sequence

import torch
from torch import Tensor


def mean_color(mean: Sequence[float]) -> list[int]:
    """Return the mean as grey levels, 0 to 255, so that padding is about 0 after normalisation."""
    return [min(255, max(0, round(255 * value))) for value in mean]


def pad_to_square(pixels: Tensor, size: int, fill: Sequence[int]) -> Tensor:
    """Pad (C, H, W) at the bottom and right to (C, size, size), with one value per channel."""
    if tuple(pixels.shape[1:]) == (size, size):
        return pixels.contiguous()
    padded = torch.tensor(list(fill), dtype=pixels.dtype).view(-1, 1, 1).repeat(1, size, size)
    padded[:, : pixels.shape[1], : pixels.shape[2]] = pixels
    return padded
