"""Crops of images with class maps: what segmentation trains on."""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Generator, Tensor
from torch.nn.functional import interpolate

from conmim_lightning.data.transforms.padding import fill_of, padded

_TRIES = 10


class SegmentationTransform:
    """Image and map resized together, cropped so that no class fills the crop, flipped, distorted, padded.

    As in mmsegmentation on ADE20K. Normalisation follows on the training device.

    Args:
        size: side of the result in pixels.
        shorter_side: that images are resized to, times a random ratio.
        longest_side: that the longer side has at most, times the same ratio.
        ratio: smallest and largest ratio.
        max_share: of labelled pixels that one class may have in a crop; ten tries are made. 1 takes any crop.
        flip: probability of a flip from left to right; 0 where sides mean something.
        photometric: distortion of colours; null for none.
        mean: of the images, per channel, in units of the full range; fills what an image leaves empty.

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
        max_share: float = 0.75,
        flip: float = 0.5,
        photometric: Any = None,
    ) -> None:
        if size < 1 or not 1 <= shorter_side <= longest_side:
            raise ValueError(
                "needed are size >= 1 and 1 <= shorter_side <= longest_side, got "
                f"{size}, {shorter_side}, {longest_side}"
            )
        if len(ratio) != 2 or not 0 < ratio[0] <= ratio[1]:
            raise ValueError(f"ratio must be [smallest, largest] with 0 < smallest <= largest, got {list(ratio)}")
        if not 0 < max_share <= 1 or not 0 <= flip <= 1:
            raise ValueError(f"max_share must lie in (0, 1] and flip in [0, 1], got {max_share} and {flip}")
        self.size = size
        self.shorter_side = shorter_side
        self.longest_side = longest_side
        self.ratio = tuple(ratio)
        self.max_share = max_share
        self.flip = flip
        self.photometric = photometric
        self.fill = fill_of(mean)

    def __call__(self, pixels: Tensor, label: Tensor, generator: Generator) -> tuple[Tensor, Tensor]:
        """Crop drawn from the generator.

        Args:
            pixels: (C, H, W) uint8.
            label: (H, W) int16.
            generator: to draw from.

        Returns:
            (C, size, size) uint8 and (size, size) int16, -1 where padded.
        """
        ratio = self.ratio[0] + (self.ratio[1] - self.ratio[0]) * _draw(generator)
        sides = label.shape
        factor = ratio * min(self.shorter_side / min(sides), self.longest_side / max(sides))
        target = [max(1, int(side * factor + 0.5)) for side in sides]
        label = resized_map(label, target)
        top, left = self._place(label, generator)
        window = (..., slice(top, top + self.size), slice(left, left + self.size))
        pixels = interpolate(pixels[None], target, mode="bilinear")[0][window]  # official: without antialiasing
        label = label[window]
        if _draw(generator) < self.flip:
            pixels, label = pixels.flip(-1), label.flip(-1)
        if self.photometric is not None:
            pixels = self.photometric(pixels, generator)
        return padded(pixels, self.size, self.fill), padded(label[None], self.size, [-1])[0]

    def _place(self, label: Tensor, generator: Generator) -> tuple[int, int]:
        """Top and left of a crop."""
        room = [max(0, side - self.size) + 1 for side in label.shape]
        top, left = 0, 0
        for _ in range(_TRIES):
            top, left = (int(_draw(generator) * places) for places in room)
            counts = (label[top : top + self.size, left : left + self.size] + 1).flatten().long().bincount()[1:]
            if self.max_share == 1 or ((counts > 0).sum() > 1 and counts.max() < self.max_share * counts.sum()):
                break
        return top, left


def resized_map(
    label: Tensor, target: Sequence[int], window: tuple[slice, slice] = (slice(None), slice(None))
) -> Tensor:
    """(..., H, W) of any type resized to the nearest values.

    Args:
        label: what to resize.
        target: height and width.
        window: rows and columns of the result to make.
    """
    rows, columns = (
        ((torch.arange(wanted)[part] + 0.5) * side / wanted).long().clamp(max=side - 1)
        for wanted, side, part in zip(target, label.shape[-2:], window, strict=True)
    )
    return label[..., rows, :][..., columns]


def _draw(generator: Generator) -> float:
    return float(torch.rand((), generator=generator))
