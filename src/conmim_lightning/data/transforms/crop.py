"""Random and central crops."""

import math
from collections.abc import Sequence

import torch
from torch import Generator, Tensor

from conmim_lightning.data.images.pixels import AnyImage, Box
from conmim_lightning.data.transforms.resize import resize_nearest

_ATTEMPTS = 10


class RandomResizedCrop:
    """Resize a random region (bicubic) like torchvision's transform of that name, then flip it at random.

    Args:
        size: pixels per side of the result.
        scale: smallest and largest fraction of the image's area; 0 < smallest <= largest <= 1.
        ratio: smallest and largest ratio of width to height.
        flip: probability of a horizontal flip, in [0, 1]; 0 if left and right have a meaning, as in writing.

    Raises:
        ValueError: an argument is out of its range.
    """

    def __init__(
        self,
        size: int = 224,
        *,
        scale: Sequence[float] = (0.08, 1.0),
        ratio: Sequence[float] = (3 / 4, 4 / 3),
        flip: float = 0.5,
    ) -> None:
        if size < 1:
            raise ValueError(f"crop size must be a positive number of pixels, got {size}")
        if len(scale) != 2 or not 0 < scale[0] <= scale[1] <= 1:
            raise ValueError(f"crop scale must be [smallest, largest] in (0, 1], got {list(scale)}")
        if len(ratio) != 2 or not 0 < ratio[0] <= ratio[1]:
            raise ValueError(f"crop ratio must be [smallest, largest] with 0 < smallest <= largest, got {list(ratio)}")
        if not 0 <= flip <= 1:
            raise ValueError(f"flip must be a probability from 0 to 1, got {flip}")
        self.size = size
        self.flip = flip
        self.scale = tuple(scale)
        self.log_ratio = (math.log(ratio[0]), math.log(ratio[1]))

    def __call__(self, image: AnyImage, generator: Generator) -> Tensor:
        """Return a random crop, (C, size, size) uint8."""
        box = self.box(image.width, image.height, generator)
        flipped = torch.rand(1, generator=generator).item() < self.flip
        crop = image.region(box, self.size)
        return crop.flip(-1) if flipped else crop

    def box(self, width: int, height: int, generator: Generator) -> Box:
        """Sample a region: left, top, right, bottom; the largest allowed central region if ten attempts do not fit."""
        draws = torch.rand(
            _ATTEMPTS, 4, generator=generator
        ).tolist()  # one call: the same number of random values for every image
        for area_draw, ratio_draw, left_draw, top_draw in draws:
            area = width * height * (self.scale[0] + area_draw * (self.scale[1] - self.scale[0]))
            aspect = math.exp(self.log_ratio[0] + ratio_draw * (self.log_ratio[1] - self.log_ratio[0]))
            w, h = round(math.sqrt(area * aspect)), round(math.sqrt(area / aspect))
            if 0 < w <= width and 0 < h <= height:
                left, top = int(left_draw * (width - w + 1)), int(top_draw * (height - h + 1))
                return left, top, left + w, top + h
        aspect = min(max(width / height, math.exp(self.log_ratio[0])), math.exp(self.log_ratio[1]))
        w, h = min(width, round(height * aspect)), min(height, round(width / aspect))
        left, top = (width - w) // 2, (height - h) // 2
        return left, top, left + w, top + h


class CenterSquare:
    """Crop and resize the largest central square of an image, or of its class map, for probes and previews.

    Args:
        size: pixels per side of the result.
    """

    def __init__(self, size: int) -> None:
        self.size = size

    def __call__(self, image: AnyImage, generator: Generator | None = None) -> Tensor:
        """Return the central square, (C, size, size) uint8, bicubic; nothing is random."""
        return image.region(center_box(image.width, image.height), self.size)

    def class_map(self, label: Tensor) -> Tensor:
        """Crop and resize a class map from (H, W) to (size, size) by nearest neighbour."""
        left, top, right, bottom = center_box(label.shape[1], label.shape[0])
        return resize_nearest(label[top:bottom, left:right], (self.size, self.size))


def center_box(width: int, height: int) -> Box:
    """Return left, top, right and bottom of the largest central square."""
    side = min(width, height)
    left, top = (width - side) // 2, (height - side) // 2
    return left, top, left + side, top + side
