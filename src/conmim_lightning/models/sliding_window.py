"""Prediction of whole images by a model that was trained on crops."""

from collections.abc import Callable, Sequence

import torch
from torch import Tensor
from torch.nn import functional as F

Scores = Callable[[Tensor], Tensor]
"""Model that maps (B, C, h, w) images to (B, K, h, w) scores."""


class SlidingWindowInference:
    """Predict probabilities per pixel, on whole images or sliding windows, averaged over scales and flips.

    As in mmsegmentation: the image is resized, cut into windows and scored; scores of overlapping windows are averaged
    and resized to the image's own size; the probabilities of all scales and flips are averaged.

    Args:
        size: pixels per side of a window, and the smallest input of the model.
        stride: pixels from one window to the next, 1 to size (official: 341 for 512); null for the whole image.
        shorter_side: resize the image's shorter side to this many pixels (official: 512); null keeps the size.
        longest_side: largest number of pixels of the resized longer side (official: 2048).
        scales: factors of shorter_side and longest_side to average over.
        flip: whether to also average over the horizontal flip.

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
            raise ValueError(f"required: 1 <= shorter_side <= longest_side, got {shorter_side} and {longest_side}")
        self.size = size
        self.stride = stride
        self.shorter_side = shorter_side
        self.longest_side = longest_side
        self.scales = list(scales)
        self.flip = flip

    def __call__(self, model: Scores, images: Tensor, divisor: int = 1) -> Tensor:
        """Return the probabilities of images.

        Args:
            model: function that computes scores.
            images: (B, C, H, W) normalised.
            divisor: patch size; the sides of the model's input must be multiples of it.

        Returns:
            (B, K, H, W) probabilities.
        """
        total, count = None, 0
        for scale in self.scales:
            height, width = self.resized(images.shape[-2], images.shape[-1], scale)
            resized = F.interpolate(images, (height, width), mode="bilinear")  # official: without antialiasing
            for flipped in (False, True) if self.flip else (False,):
                scores = self._scores(model, resized.flip(-1) if flipped else resized, divisor)
                scores = scores.flip(-1) if flipped else scores
                scores = F.interpolate(scores.float(), images.shape[-2:], mode="bilinear").softmax(1)
                total, count = scores if total is None else total + scores, count + 1
        assert total is not None
        return total / count

    def resized(self, height: int, width: int, scale: float = 1.0) -> tuple[int, int]:
        """Return height and width at which an image is scored."""
        factor = scale
        if self.shorter_side is not None:
            shorter, longest = self.shorter_side * scale, self.longest_side * scale
            factor = min(shorter / min(height, width), longest / max(height, width))
        return max(1, int(height * factor + 0.5)), max(1, int(width * factor + 0.5))

    def _scores(self, model: Scores, images: Tensor, divisor: int) -> Tensor:
        """Return scores at the images' size; pad images with zeros (the mean) if the model needs a larger input."""
        height, width = images.shape[-2:]
        if self.stride is None:
            down, right = -height % divisor, -width % divisor
        else:
            down, right = max(0, self.size - height), max(0, self.size - width)
        padded = F.pad(images, (0, right, 0, down))
        scores = model(padded) if self.stride is None else self._slide(model, padded, self.stride)
        return scores[..., :height, :width]

    def _slide(self, model: Scores, images: Tensor, stride: int) -> Tensor:
        tops, lefts = (_offsets(side, self.size, stride) for side in images.shape[-2:])
        total: Tensor | None = None
        count = torch.zeros(images.shape[-2:], device=images.device)
        for top in tops:
            for left in lefts:
                window = (..., slice(top, top + self.size), slice(left, left + self.size))
                scores = model(images[window]).float()
                if total is None:
                    total = scores.new_zeros(*scores.shape[:2], *images.shape[-2:])
                total[window] += scores
                count[window] += 1
        assert total is not None
        return total / count


def _offsets(side: int, size: int, stride: int) -> list[int]:
    """Return the first pixel of each window; the last window ends at the image's edge."""
    steps = max(0, -(-(side - size) // stride))
    return [min(step * stride, side - size) for step in range(steps + 1)]
