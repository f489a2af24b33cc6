"""Transforms of labelled images for fine-tuning and evaluation."""

from collections.abc import Callable, Sequence

import torch
from PIL import Image, ImageOps
from timm.data import rand_augment_transform
from timm.data.auto_augment import RandAugment
from torch import Generator, Tensor
from torch.nn.functional import interpolate

from conmim_lightning.data.images.pixels import MODES, AnyImage, to_tensor
from conmim_lightning.data.transforms.crop import RandomResizedCrop
from conmim_lightning.rng import seeded_globally

ClassificationTransform = Callable[[AnyImage, Generator], Tensor]
"""Transform of an image to (C, size, size) uint8; all random values are sampled from the generator."""

_AUGMENTED = (1, 3)  # channels
_LONGEST = 4  # largest longer side that is resized, in units of the shorter side
_TRANSLATION = 0.45  # timm's fraction of the side


class TrainTransform:
    """Apply a random resized crop with a random flip, then timm's RandAugment.

    Normalisation and random erasing follow on the training device.

    Args:
        crop: random crop, flip included.
        auto_augment: timm's description, such as "rand-m9-mstd0.5-inc1"; null for no RandAugment.
        mean: mean of the images per channel, on a scale of 0 to 1; fills the area that an operation leaves empty.

    Raises:
        ValueError: timm does not accept the description as RandAugment, or the images are neither grey nor RGB.
    """

    def __init__(self, *, crop: RandomResizedCrop, mean: Sequence[float], auto_augment: str | None = None) -> None:
        self.crop = crop
        self.augment = None if auto_augment is None else _rand_augment(auto_augment, mean, crop.size)

    def __call__(self, image: AnyImage, generator: Generator) -> Tensor:
        """Return a randomly transformed image, (C, size, size) uint8."""
        crop = self.crop(image, generator)
        if self.augment is None:
            return crop
        pil = Image.fromarray(crop.permute(1, 2, 0).squeeze(-1).numpy(), mode=MODES[len(crop)])
        with seeded_globally(int(torch.randint(1 << 62, (1,), generator=generator))):
            return to_tensor(self.augment(pil)).contiguous()


class EvaluationTransform:
    """Resize the shorter side and crop the central square.

    official: resize to 256, crop 224; for sizes of at least 384 pixels, resize to the size itself.

    Args:
        size: pixels per side of the result.
        resize: pixels of the shorter side before the crop, at least ``size``; null for ``size``.
        interpolation: "bicubic" (official) or "bilinear", both with antialiasing.

    Raises:
        ValueError: resize is below size, or the interpolation is unknown.
    """

    def __init__(self, size: int, *, resize: int | None = None, interpolation: str = "bicubic") -> None:
        if interpolation not in ("bicubic", "bilinear"):
            raise ValueError(f"interpolation must be bicubic or bilinear, got {interpolation!r}")
        self.interpolation = interpolation
        self.size = size
        self.resize = size if resize is None else resize
        if not 1 <= size <= self.resize:
            raise ValueError(f"evaluation needs 1 <= size <= resize, got {size} and {resize}")

    def __call__(self, image: AnyImage, generator: Generator | None = None) -> Tensor:
        """Return the transformed image, (C, size, size) uint8; nothing is random."""
        pixels = _without_ends(image.whole())
        height, width = pixels.shape[1:]
        short, long = sorted((height, width))
        long = int(self.resize * long / short)
        target = (self.resize, long) if height <= width else (long, self.resize)
        if target != (height, width):
            pixels = interpolate(pixels[None], target, mode=self.interpolation, antialias=True)[0]
        top, left = (round((side - self.size) / 2) for side in target)
        return pixels[:, top : top + self.size, left : left + self.size].contiguous()


class SquashTransform:
    """Resize to a square whatever the aspect ratio, and crop the central square, as some models of other projects.

    Args:
        size: pixels per side of the result.
        resize: pixels per side before the crop, at least ``size``; null for ``size``.
        interpolation: "bicubic" or "bilinear", both with antialiasing.

    Raises:
        ValueError: resize is below size, or the interpolation is unknown.
    """

    def __init__(self, size: int, *, resize: int | None = None, interpolation: str = "bicubic") -> None:
        centre = EvaluationTransform(size, resize=resize, interpolation=interpolation)
        self.size, self.resize, self.interpolation = centre.size, centre.resize, centre.interpolation

    def __call__(self, image: AnyImage, generator: Generator | None = None) -> Tensor:
        """Return the transformed image, (C, size, size) uint8; nothing is random."""
        target = (self.resize, self.resize)
        pixels = interpolate(image.whole()[None], target, mode=self.interpolation, antialias=True)[0]
        first = round((self.resize - self.size) / 2)
        return pixels[:, first : first + self.size, first : first + self.size].contiguous()


def _rand_augment(description: str, mean: Sequence[float], size: int) -> RandAugment:
    if len(mean) not in _AUGMENTED:
        raise ValueError(f"auto_augment needs grey or RGB images, got {len(mean)} channels; set it to null")
    if not description.startswith("rand-m"):
        raise ValueError(f"auto_augment must be one of timm's rand-m..., or null, got {description!r}")
    fill = [min(255, round(255 * value)) for value in mean]
    settings = {
        "translate_const": int(size * _TRANSLATION),
        "img_mean": tuple(fill) if len(fill) > 1 else fill[0],
        "interpolation": Image.Resampling.BICUBIC,
    }
    try:
        augment = rand_augment_transform(description, settings)
    except (AssertionError, ValueError) as error:
        raise ValueError(f"auto_augment={description!r} is not understood by timm: {error}") from error
    for operation in augment.ops:
        if operation.name.startswith("Posterize"):
            operation.aug_fn = _posterize
    return augment


def _without_ends(pixels: Tensor) -> Tensor:
    """Crop an image of extreme aspect ratio around its central square, because resizing would make it huge."""
    height, width = pixels.shape[1:]
    longest = _LONGEST * min(height, width)
    cut_rows, cut_columns = max(height - longest, 0) // 2, max(width - longest, 0) // 2
    return pixels[:, cut_rows : height - cut_rows, cut_columns : width - cut_columns]


def _posterize(image: Image.Image, bits: int, **_: object) -> Image.Image:
    """Keep the highest ``bits`` bits of each value; at full strength, 0 bits.

    official: 0 bits gave a black image with the Pillow of that time; newer versions raise, and timm fails with them.
    """
    return ImageOps.posterize(image, bits) if bits else Image.new(image.mode, image.size)
