"""Transforms of images with objects for detection."""

from collections.abc import Sequence

import torch
from torch import Generator, Tensor
from torchvision.ops import masks_to_boxes

from conmim_lightning.batches import Objects
from conmim_lightning.data.transforms.padding import mean_color, pad_to_square
from conmim_lightning.data.transforms.resize import Window, resize_longest, resize_nearest

_SMALLEST = 1.0  # pixels per side of a box to train on


class ScaleJitter:
    """Resize an image by a random factor, crop it at random or pad it to a square, and flip it.

    Large-scale jitter (arXiv 2012.07177), as in ViTDet and MIMDet's benchmark. Boxes are computed from the cropped
    masks, or clipped if there are no masks. Crowds are left out.

    Args:
        size: pixels S per side of the result.
        mean: mean of the images per channel, on a scale of 0 to 1; used as the padding colour.
        scale: smallest and largest factor, relative to the factor at which the image just fits the square.
        flip: probability of a horizontal flip; 0 if left and right have a meaning.

    Raises:
        ValueError: a number is out of its range.
    """

    def __init__(
        self, *, size: int, mean: Sequence[float], scale: Sequence[float] = (0.1, 2.0), flip: float = 0.5
    ) -> None:
        if size < 1 or len(scale) != 2 or not 0 < scale[0] <= scale[1] or not 0 <= flip <= 1:
            raise ValueError(
                "required: size >= 1, scale [smallest, largest] above 0 and flip in [0, 1], got "
                f"{size}, {list(scale)}, {flip}"
            )
        self.size = size
        self.scale = tuple(scale)
        self.flip = flip
        self.fill = mean_color(mean)

    def __call__(self, pixels: Tensor, objects: Objects, generator: Generator) -> tuple[Tensor, Tensor, Objects]:
        """Sample a square.

        Args:
            pixels: (C, H, W) uint8.
            objects: objects in coordinates of the image.
            generator: random generator.

        Returns:
            (C, S, S) uint8; (2,) height and width of the image in the square; objects in coordinates of the square.
        """
        draws = torch.rand(4, generator=generator).tolist()
        factor = self.scale[0] + (self.scale[1] - self.scale[0]) * draws[0]
        before, pixels = pixels.shape[1:], resize_longest(pixels, self.size * factor)
        after = pixels.shape[1:]
        top, left = (int(draw * (max(0, side - self.size) + 1)) for draw, side in zip(draws[1:3], after, strict=True))
        window = (slice(top, top + self.size), slice(left, left + self.size))
        pixels = pixels[:, window[0], window[1]]
        objects = _crop_objects(objects, before, after, window, pixels.shape[1:])
        if draws[3] < self.flip:
            pixels, objects = pixels.flip(-1), _flip_objects(objects, pixels.shape[2])
        size = torch.tensor(pixels.shape[1:])
        count = len(objects.masks)
        masks = (
            pad_to_square(objects.masks, self.size, [0] * count)
            if count
            else torch.zeros(0, self.size, self.size, dtype=torch.bool)
        )
        return pad_to_square(pixels, self.size, self.fill), size, objects._replace(masks=masks)


class FitSquare:
    """Resize the longer side of an image to the side of a square and pad the rest.

    Args:
        size: pixels S per side of the square.
        mean: mean of the images per channel, on a scale of 0 to 1; used as the padding colour.
    """

    def __init__(self, *, size: int, mean: Sequence[float]) -> None:
        self.size = size
        self.fill = mean_color(mean)

    def __call__(self, pixels: Tensor) -> tuple[Tensor, Tensor]:
        """Convert (C, H, W) uint8 to (C, S, S) uint8; also return (2,) height and width of the image in the square."""
        resized = resize_longest(pixels, self.size)
        return pad_to_square(resized, self.size, self.fill), torch.tensor(resized.shape[1:])


def _crop_objects(
    objects: Objects, before: Sequence[int], after: Sequence[int], window: Window, size: Sequence[int]
) -> Objects:
    """Return the objects that remain in a window of the resized image, without crowds.

    Args:
        objects: objects in coordinates of the image.
        before: height and width of the image.
        after: height and width of the resized image.
        window: rows and columns of the resized image.
        size: height and width of the window's content.
    """
    single = ~objects.crowd
    factors = torch.tensor([after[1] / before[1], after[0] / before[0]]).repeat(2)
    boxes = objects.boxes[single] * factors - torch.tensor([window[1].start, window[0].start]).repeat(2)
    boxes = torch.minimum(boxes.clamp(min=0), torch.tensor([size[1], size[0]]).repeat(2))
    masks = objects.masks
    if len(masks):
        masks = (
            torch.stack([resize_nearest(mask, after, window) for mask in masks[single]]) if single.any() else masks[:0]
        )
        boxes = boxes_of(masks)
    keep = ((boxes[:, 2:] - boxes[:, :2]) >= _SMALLEST).all(1)
    return Objects(
        boxes=boxes[keep].float(),
        labels=objects.labels[single][keep],
        masks=masks[keep] if len(masks) else masks,
        crowd=objects.crowd[single][keep],
        area=objects.area[single][keep],
    )


def boxes_of(masks: Tensor) -> Tensor:
    """Return the (n, 4) boxes around (n, H, W) masks: left, top, right, bottom; all 0 for an empty mask."""
    boxes, filled = torch.zeros(len(masks), 4), masks.flatten(1).any(1)
    if filled.any():
        boxes[filled] = masks_to_boxes(masks[filled]) + torch.tensor([0.0, 0.0, 1.0, 1.0])  # inclusive ends
    return boxes


def _flip_objects(objects: Objects, width: int) -> Objects:
    left, top, right, bottom = objects.boxes.T
    boxes = torch.stack([width - right, top, width - left, bottom], 1)
    return objects._replace(boxes=boxes, masks=objects.masks.flip(-1))
