"""Normalisation of images on the training device."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn


class Normalize(nn.Module):
    """Normalise (B, C, H, W) uint8 to float32 with zero mean and unit standard deviation per channel.

    Args:
        mean: mean per channel, on a scale of 0 to 1.
        std: standard deviation per channel, on a scale of 0 to 1, > 0.

    Raises:
        ValueError: the lengths differ or a standard deviation is not positive.
    """

    mean: Tensor
    std: Tensor

    def __init__(self, mean: Sequence[float], std: Sequence[float]) -> None:
        super().__init__()
        if len(mean) != len(std) or min(std) <= 0:
            raise ValueError(f"mean and std need one entry per channel, std above 0; got {list(mean)} and {list(std)}")
        self.register_buffer("mean", 255 * torch.tensor(list(mean)).view(-1, 1, 1), persistent=False)
        self.register_buffer("std", 255 * torch.tensor(list(std)).view(-1, 1, 1), persistent=False)

    def forward(self, images: Tensor) -> Tensor:
        """Normalise the images."""
        return (images.float() - self.mean) / self.std
