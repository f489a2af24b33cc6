"""Photometric distortion, as in the recipe of semantic segmentation."""

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Generator, Tensor

from conmim_lightning.data.images.pixels import to_tensor


class PhotometricDistortion:
    """Change brightness, contrast, saturation and hue, each with probability 1/2, as in mmsegmentation.

    Contrast is changed before or after saturation and hue, at random. Images that are not RGB keep saturation and hue.

    Args:
        brightness: largest number of grey levels to add or subtract, 0 to 255.
        contrast: smallest and largest factor of all values.
        saturation: smallest and largest factor of the saturation.
        hue: largest shift of the hue in degrees, 0 to 180.

    Raises:
        ValueError: a number is out of its range.
    """

    def __init__(
        self,
        *,
        brightness: float = 32,
        contrast: tuple[float, float] = (0.5, 1.5),
        saturation: tuple[float, float] = (0.5, 1.5),
        hue: float = 36,
    ) -> None:
        if not (0 <= brightness <= 255 and 0 <= hue <= 180):
            raise ValueError(f"brightness must be from 0 to 255 and hue from 0 to 180, got {brightness} and {hue}")
        for name, (low, high) in (("contrast", contrast), ("saturation", saturation)):
            if not 0 <= low <= high:
                raise ValueError(f"{name} must be [smallest, largest] of at least 0, got {[low, high]}")
        self.brightness = brightness
        self.contrast = tuple(contrast)
        self.saturation = tuple(saturation)
        self.hue = hue

    def __call__(self, pixels: Tensor, generator: Generator) -> Tensor:
        """Return a randomly distorted image, (C, H, W) uint8, like the input."""
        draws = torch.rand(9, generator=generator).tolist()
        has_brightness, has_contrast, has_saturation, has_hue = (draw < 0.5 for draw in draws[:4])
        values, contrast_last = pixels, draws[4] < 0.5
        factor = _between(draws[6], self.contrast)
        if has_brightness:
            values = _linear(values, 1.0, (2 * draws[5] - 1) * self.brightness)
        if has_contrast and not contrast_last:
            values = _linear(values, factor, 0.0)
        saturation = _between(draws[7], self.saturation) if has_saturation else 1.0
        shift = (2 * draws[8] - 1) * self.hue if has_hue else 0.0
        if len(pixels) == 3 and (saturation, shift) != (1.0, 0.0):
            values = _change_color(values, saturation, shift)
        if has_contrast and contrast_last:
            values = _linear(values, factor, 0.0)
        return values


def _between(fraction: float, limits: tuple[float, ...]) -> float:
    return limits[0] + fraction * (limits[1] - limits[0])


def _linear(pixels: Tensor, factor: float, offset: float) -> Tensor:
    """Multiply and add, clipped to 0 to 255, by a lookup table."""
    table = (torch.arange(256) * factor + offset).clamp(0, 255).to(torch.uint8)
    return table[pixels.long()]


def _change_color(pixels: Tensor, saturation: float, shift: float) -> Tensor:
    """Multiply the saturation and shift the hue by degrees."""
    image = Image.fromarray(pixels.permute(1, 2, 0).contiguous().numpy(), mode="RGB").convert("HSV")
    values: NDArray[np.uint8] = np.array(image)
    values[..., 0] += np.uint8(round(shift / 360 * 256) % 256)  # wraps
    values[..., 1] = np.clip(values[..., 1] * np.float32(saturation), 0, 255).astype(np.uint8)
    return to_tensor(Image.fromarray(values, mode="HSV").convert("RGB")).contiguous()
