"""Squares of images with objects: what detection trains on, and what it is judged by."""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Generator, Tensor
from torch.nn.functional import interpolate

from conmim_lightning.batches import Objects
from conmim_lightning.data.transforms.padding import fill_of, padded
from conmim_lightning.data.transforms.segmentation import resized_map

_LEAST = 1.0  # pixels a side of a box that is worth learning


class ScaleJitter:
    """An image resized by a random factor, cropped at random or padded to a square, and flipped.

    Large-scale jitter (arXiv 2012.07177), as in ViTDet and MIMDet's benchmark. Boxes are made anew from the masks that
    are left, or cut at the edges where there are none; crowds are left out.

    Args:
        size: side S of the result in pixels.
        mean: of the images, per channel, in units of the full range; fills what an image leaves empty.
        scale: smallest and largest factor, in units of that with which the image would just fit.
        flip: probability of a flip from left to right; 0 where sides mean something.

    Raises:
        ValueError: a number is out of its range.
    """

    def __init__(
        self, *, size: int, mean: Sequence[float], scale: Sequence[float] = (0.1, 2.0), flip: float = 0.5
    ) -> None:
        if size < 1 or len(scale) != 2 or not 0 < scale[0] <= scale[1] or not 0 <= flip <= 1:
            raise ValueError(
                "needed are size >= 1, scale [smallest, largest] above 0 and flip in [0, 1], got "
                f"{size}, {list(scale)}, {flip}"
            )
        self.size = size
        self.scale = tuple(scale)
        self.flip = flip
        self.fill = fill_of(mean)

    def __call__(self, pixels: Tensor, objects: Objects, generator: Generator) -> tuple[Tensor, Tensor, Objects]:
        """Drawn from the generator.

        Args:
            pixels: (C, H, W) uint8.
            objects: in its pixels.
            generator: to draw from.

        Returns:
            (C, S, S) uint8; (2,) height and width of the image in it; its objects, in those pixels.
        """
        drawn = torch.rand(4, generator=generator).tolist()
        factor = self.scale[0] + (self.scale[1] - self.scale[0]) * drawn[0]
        before, pixels = pixels.shape[1:], _resized(pixels, self.size * factor)
        after = pixels.shape[1:]
        top, left = (
            int(share * (max(0, side - self.size) + 1))
            for share, side in zip(drawn[1:3], pixels.shape[1:], strict=True)
        )
        window = (slice(top, top + self.size), slice(left, left + self.size))
        pixels = pixels[:, window[0], window[1]]
        objects = _cut_out(objects, before, after, window, pixels.shape[1:])
        if drawn[3] < self.flip:
            pixels, objects = pixels.flip(-1), _mirrored(objects, pixels.shape[2])
        size = torch.tensor(pixels.shape[1:])
        square = padded(objects.masks, self.size, [0] * len(objects.masks)) if len(objects.masks) else objects.masks
        if not len(square):
            square = square.new_zeros(0, self.size, self.size)
        return padded(pixels, self.size, self.fill), size, objects._replace(masks=square)


class FitSquare:
    """The longer side resized to a square's, the rest padded.

    Args:
        size: side S of the square in pixels.
        mean: of the images, per channel, in units of the full range; fills what an image leaves empty.
    """

    def __init__(self, *, size: int, mean: Sequence[float]) -> None:
        self.size = size
        self.fill = fill_of(mean)

    def __call__(self, pixels: Tensor) -> tuple[Tensor, Tensor]:
        """(C, H, W) uint8 to (C, S, S) uint8, and (2,) height and width of the image in it."""
        resized = _resized(pixels, self.size)
        return padded(resized, self.size, self.fill), torch.tensor(resized.shape[1:])


def _resized(pixels: Tensor, longest: float) -> Tensor:
    factor = longest / max(pixels.shape[1:])
    target = [max(1, int(side * factor + 0.5)) for side in pixels.shape[1:]]
    if target == list(pixels.shape[1:]):
        return pixels
    return interpolate(pixels[None], target, mode="bilinear", antialias=True)[0]


def _cut_out(
    objects: Objects, before: Sequence[int], after: Sequence[int], window: tuple[slice, slice], size: Sequence[int]
) -> Objects:
    """What is left of the objects, but crowds, in a window of the resized image.

    Args:
        objects: in the image's pixels.
        before: its height and width.
        after: the same when resized.
        window: rows and columns of the resized image.
        size: height and width of what the window holds.
    """
    single = ~objects.crowd
    factors = torch.tensor([after[1] / before[1], after[0] / before[0]]).repeat(2)
    boxes = objects.boxes[single] * factors - torch.tensor([window[1].start, window[0].start]).repeat(2)
    boxes = torch.minimum(boxes.clamp(min=0), torch.tensor([size[1], size[0]]).repeat(2))
    masks = objects.masks
    if len(masks):
        masks = torch.stack([resized_map(mask, after, window) for mask in masks[single]]) if single.any() else masks[:0]
        boxes = boxes_of(masks)
    fit = ((boxes[:, 2:] - boxes[:, :2]) >= _LEAST).all(1)
    kept: dict[str, Any] = {"boxes": boxes[fit].float(), "masks": masks[fit] if len(masks) else masks}
    return Objects(**kept, **{name: getattr(objects, name)[single][fit] for name in ("labels", "crowd", "area")})


def boxes_of(masks: Tensor) -> Tensor:
    """(n, H, W) masks to (n, 4) boxes around their pixels: left, top, right, bottom; all 0 for an empty mask."""
    columns, rows = masks.any(1), masks.any(2)
    found = []
    for places in (columns, rows):
        numbers = torch.arange(places.shape[1])
        first = torch.where(places, numbers, places.shape[1]).amin(1)
        last = torch.where(places, numbers + 1, 0).amax(1)
        found.append((torch.minimum(first, last), last))
    return torch.stack([found[0][0], found[1][0], found[0][1], found[1][1]], 1).float()


def _mirrored(objects: Objects, width: int) -> Objects:
    left, top, right, bottom = objects.boxes.T
    boxes = torch.stack([width - right, top, width - left, bottom], 1)
    return objects._replace(boxes=boxes, masks=objects.masks.flip(-1))
