"""Transforms of images with class maps for segmentation."""

from collections.abc import Callable, Sequence

import torch
from torch import Generator, Tensor
from torch.nn.functional import interpolate

from conmim_lightning.data.transforms.padding import mean_color, pad_to_square
from conmim_lightning.data.transforms.resize import resize_nearest, rounded_sides

_ATTEMPTS = 10


class SegmentationTransform:
    """Resize image and map together, crop so that no class fills the crop, flip, distort and pad.

    As in mmsegmentation on ADE20K. Normalisation follows on the training device.

    Args:
        size: pixels per side of the result.
        shorter_side: pixels of the shorter side after resizing, times a random ratio.
        longest_side: largest number of pixels of the longer side, times the same ratio.
        ratio: smallest and largest ratio.
        max_fraction: largest fraction of a crop's labelled pixels in one class; ten attempts; 1 accepts any crop.
        flip: probability of a horizontal flip; 0 if left and right have a meaning.
        photometric: colour distortion; null for none.
        mean: mean of the images per channel, on a scale of 0 to 1; used as the padding colour.

    Raises:
        ValueError: a number is out of its range.
    """

    def __init__(
        self,
        *,
        size: int,
        mean: Sequence[float],
        shorter_side: int = 512,
        longest_side: int = 2048,
        ratio: Sequence[float] = (0.5, 2.0),
        max_fraction: float = 0.75,
        flip: float = 0.5,
        photometric: Callable[[Tensor, Generator], Tensor] | None = None,
    ) -> None:
        if size < 1 or not 1 <= shorter_side <= longest_side:
            raise ValueError(
                f"required: size >= 1 and 1 <= shorter_side <= longest_side, got {size}, {shorter_side}, {longest_side}"
            )
        if len(ratio) != 2 or not 0 < ratio[0] <= ratio[1]:
            raise ValueError(f"ratio must be [smallest, largest] with 0 < smallest <= largest, got {list(ratio)}")
        if not 0 < max_fraction <= 1 or not 0 <= flip <= 1:
            raise ValueError(f"max_fraction must lie in (0, 1] and flip in [0, 1], got {max_fraction} and {flip}")
        self.size = size
        self.shorter_side = shorter_side
        self.longest_side = longest_side
        self.ratio = tuple(ratio)
        self.max_fraction = max_fraction
        self.flip = flip
        self.photometric = photometric
        self.fill = mean_color(mean)

    def __call__(self, pixels: Tensor, label: Tensor, generator: Generator) -> tuple[Tensor, Tensor]:
        """Sample a crop.

        Args:
            pixels: (C, H, W) uint8.
            label: class map, (H, W) int16.
            generator: random generator.

        Returns:
            Image (C, size, size) uint8, and class map (size, size) int16 with -1 in the padding.
        """
        ratio = self.ratio[0] + (self.ratio[1] - self.ratio[0]) * _uniform(generator)
        sides = label.shape
        factor = ratio * min(self.shorter_side / min(sides), self.longest_side / max(sides))
        target = rounded_sides(sides, factor)
        label = resize_nearest(label, target)
        top, left = self._corner(label, generator)
        window = (..., slice(top, top + self.size), slice(left, left + self.size))
        pixels = interpolate(pixels[None], target, mode="bilinear")[0][window]  # official: without antialiasing
        label = label[window]
        if _uniform(generator) < self.flip:
            pixels, label = pixels.flip(-1), label.flip(-1)
        if self.photometric is not None:
            pixels = self.photometric(pixels, generator)
        return pad_to_square(pixels, self.size, self.fill), pad_to_square(label[None], self.size, [-1])[0]

    def _corner(self, label: Tensor, generator: Generator) -> tuple[int, int]:
        """Sample the top and left coordinate of a crop."""
        choices = [max(0, side - self.size) + 1 for side in label.shape]
        top, left = 0, 0
        for _ in range(_ATTEMPTS):
            top, left = (int(_uniform(generator) * count) for count in choices)
            counts = (label[top : top + self.size, left : left + self.size] + 1).flatten().long().bincount()[1:]
            if self.max_fraction == 1 or ((counts > 0).sum() > 1 and counts.max() < self.max_fraction * counts.sum()):
                break
        return top, left


def _uniform(generator: Generator) -> float:
    return float(torch.rand((), generator=generator))
