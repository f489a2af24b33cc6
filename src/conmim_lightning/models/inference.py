"""Scores of whole images from a model that was trained on crops."""

from collections.abc import Callable, Sequence

import torch
from torch import Tensor
from torch.nn import functional as F

Scores = Callable[[Tensor], Tensor]
"""(B, C, h, w) images to (B, K, h, w) scores."""


class Inference:
    """Probabilities of every pixel: whole or in sliding windows, at one size or several, with or without mirror images.

    As in mmsegmentation: images are resized, cut and scored; scores of overlapping windows are averaged, resized to the
    image's own size, and the probabilities of all sizes and mirror images are averaged.

    Args:
        size: pixels a side of a window, and the least that the model is given.
        stride: pixels from a window to the next, 1 to size (official: 341 for 512); null for the image as a whole.
        shorter_side: pixels to resize the image's shorter side to (official: 512); null leaves it.
        longest_side: pixels that the longer side then has at most (official: 2048).
        scales: factors of shorter_side and longest_side to average over.
        flip: average with the mirror image's.

    Raises:
        ValueError: a number is out of its range.
    """

    def __init__(
        self,
        *,
        size: int,
        stride: int | None = None,
        shorter_side: int | None = None,
        longest_side: int = 2048,
        scales: Sequence[float] = (1.0,),
        flip: bool = False,
    ) -> None:
        if size < 1:
            raise ValueError(f"size must be at least 1, got {size}")
        if stride is not None and not 1 <= stride <= size:
            raise ValueError(f"task.inference.stride must be null or from 1 to size={size}, got {stride}")
        if not scales or min(scales) <= 0:
            raise ValueError(f"scales must be positive numbers, got {list(scales)}")
        if shorter_side is not None and not 1 <= shorter_side <= longest_side:
            raise ValueError(f"needed is 1 <= shorter_side <= longest_side, got {shorter_side} and {longest_side}")
        self.size = size
        self.stride = stride
        self.shorter_side = shorter_side
        self.longest_side = longest_side
        self.scales = list(scales)
        self.flip = flip

    def __call__(self, scores_of: Scores, images: Tensor, divisor: int = 1) -> Tensor:
        """Score images.

        Args:
            scores_of: the model.
            images: (B, C, H, W) normalised.
            divisor: what the sides of an image that the model takes must be a multiple of: the patch size.

        Returns:
            (B, K, H, W) probabilities.
        """
        total, count = None, 0
        for scale in self.scales:
            height, width = self.resized(images.shape[-2], images.shape[-1], scale)
            resized = F.interpolate(images, (height, width), mode="bilinear")  # official: without antialiasing
            for mirror in (False, True) if self.flip else (False,):
                found = self._scores(scores_of, resized.flip(-1) if mirror else resized, divisor)
                found = found.flip(-1) if mirror else found
                found = F.interpolate(found.float(), images.shape[-2:], mode="bilinear").softmax(1)
                total, count = found if total is None else total + found, count + 1
        assert total is not None
        return total / count

    def resized(self, height: int, width: int, scale: float = 1.0) -> tuple[int, int]:
        """Sides that an image is scored at."""
        factor = scale
        if self.shorter_side is not None:
            shorter, longest = self.shorter_side * scale, self.longest_side * scale
            factor = min(shorter / min(height, width), longest / max(height, width))
        return max(1, int(height * factor + 0.5)), max(1, int(width * factor + 0.5))

    def _scores(self, scores_of: Scores, images: Tensor, divisor: int) -> Tensor:
        """Scores at the images' size, which is padded with zeros (the mean) where the model needs more."""
        height, width = images.shape[-2:]
        if self.stride is None:
            down, right = -height % divisor, -width % divisor
        else:
            down, right = max(0, self.size - height), max(0, self.size - width)
        padded = F.pad(images, (0, right, 0, down))
        scores = scores_of(padded) if self.stride is None else self._slid(scores_of, padded)
        return scores[..., :height, :width]

    def _slid(self, scores_of: Scores, images: Tensor) -> Tensor:
        assert self.stride is not None
        tops, lefts = (_starts(side, self.size, self.stride) for side in images.shape[-2:])
        total: Tensor | None = None
        count = torch.zeros(images.shape[-2:], device=images.device)
        for top in tops:
            for left in lefts:
                place = (..., slice(top, top + self.size), slice(left, left + self.size))
                found = scores_of(images[place]).float()
                if total is None:
                    total = found.new_zeros(*found.shape[:2], *images.shape[-2:])
                total[place] += found
                count[place] += 1
        assert total is not None
        return total / count


def _starts(side: int, size: int, stride: int) -> list[int]:
    """Where windows begin; the last one ends with the image."""
    steps = max(0, -(-(side - size) // stride))
    return [min(step * stride, side - size) for step in range(steps + 1)]
