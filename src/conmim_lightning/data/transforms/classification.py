"""Crops of labelled images: what fine-tuning trains on and what it is judged by."""

from collections.abc import Sequence
from typing import Any, Protocol

import torch
from PIL import Image, ImageOps
from timm.data import rand_augment_transform
from torch import Generator, Tensor
from torch.nn.functional import interpolate

from conmim_lightning.data.crop import RandomResizedCrop
from conmim_lightning.data.decode import MODES
from conmim_lightning.data.pixels import to_tensor
from conmim_lightning.randomness import seeded_globally

_AUGMENTED = (1, 3)
_LONGEST = 4  # long side that is resized, in units of the short one
_TRANSLATION = 0.45  # timm's share of the side


class AnyPicture(Protocol):
    """An image that gives regions of itself, or all."""

    width: int
    height: int

    def region(self, box: tuple[int, int, int, int], size: int) -> Tensor:
        """A region resized to (C, size, size) uint8."""
        ...

    def whole(self) -> Tensor:
        """All pixels, (C, H, W) uint8."""
        ...


class TrainTransform:
    """A random resized crop, flipped with probability 1/2, then timm's RandAugment.

    Normalisation and random erasing follow on the training device.

    Args:
        crop: geometry, flip included.
        auto_augment: timm's description, such as "rand-m9-mstd0.5-inc1"; null for none.
        mean: of the images, per channel, in units of the full range; fills what an operation leaves empty.

    Raises:
        ValueError: the description is none of timm's RandAugment, or the images are neither grey nor RGB.
    """

    def __init__(self, *, crop: RandomResizedCrop, mean: Sequence[float], auto_augment: str | None = None) -> None:
        self.crop = crop
        self.augment: Any = None
        if auto_augment is None:
            return
        if len(mean) not in _AUGMENTED:
            raise ValueError(f"auto_augment needs grey or RGB images, got {len(mean)} channels; set it to null")
        if not auto_augment.startswith("rand-m"):
            raise ValueError(f"auto_augment must be one of timm's rand-m..., or null, got {auto_augment!r}")
        fill = [min(255, round(255 * value)) for value in mean]
        settings = {
            "translate_const": int(crop.size * _TRANSLATION),
            "img_mean": tuple(fill) if len(fill) > 1 else fill[0],
            "interpolation": Image.Resampling.BICUBIC,
        }
        try:
            self.augment = rand_augment_transform(auto_augment, settings)
        except (AssertionError, ValueError) as error:
            raise ValueError(f"auto_augment={auto_augment!r} is not understood by timm: {error}") from error
        for operation in self.augment.ops:
            if operation.name.startswith("Posterize"):
                operation.aug_fn = _posterize

    def __call__(self, picture: AnyPicture, generator: Generator) -> Tensor:
        """Transform drawn from the generator, (C, size, size) uint8."""
        crop = self.crop(picture, generator)
        if self.augment is None:
            return crop
        mode = MODES[len(crop)]
        image = Image.fromarray(crop.permute(1, 2, 0).squeeze(-1).numpy(), mode=mode)
        with seeded_globally(int(torch.randint(1 << 62, (1,), generator=generator))):
            return to_tensor(self.augment(image)).contiguous()


class EvaluationTransform:
    """The shorter side resized, bicubic, then the central square.

    official: 256, then 224; from 384 pixels on resized to the size itself.

    Args:
        size: side of the result in pixels.
        resize: pixels of the shorter side before the crop, at least ``size``; null for size.

    Raises:
        ValueError: resize is below size.
    """

    def __init__(self, size: int, *, resize: int | None = None) -> None:
        self.size = size
        self.resize = size if resize is None else resize
        if not 1 <= size <= self.resize:
            raise ValueError(f"evaluation needs 1 <= size <= resize, got {size} and {resize}")

    def __call__(self, picture: AnyPicture, generator: Generator | None = None) -> Tensor:
        """(C, size, size) uint8; nothing is drawn."""
        pixels = _without_ends(picture.whole())
        height, width = pixels.shape[1:]
        short, long = sorted((height, width))
        long = int(self.resize * long / short)
        target = (self.resize, long) if height <= width else (long, self.resize)
        if target != (height, width):
            pixels = interpolate(pixels[None], target, mode="bicubic", antialias=True)[0]
        top, left = (round((side - self.size) / 2) for side in target)
        return pixels[:, top : top + self.size, left : left + self.size].contiguous()


def _without_ends(pixels: Tensor) -> Tensor:
    """Cut what lies far outside of the central square, which resizing would make huge."""
    height, width = pixels.shape[1:]
    most = _LONGEST * min(height, width)
    cut_rows, cut_columns = max(height - most, 0) // 2, max(width - most, 0) // 2
    return pixels[:, cut_rows : height - cut_rows, cut_columns : width - cut_columns]


def _posterize(image: Image.Image, bits: int, **_: Any) -> Image.Image:
    """Keep the highest bits of each value; none at full strength.

    official: with the Pillow of that time no bits gave a black image; newer ones refuse, and with them timm fails.
    """
    return ImageOps.posterize(image, bits) if bits else Image.new(image.mode, image.size)
