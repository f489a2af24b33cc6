"""Random brightness, contrast, saturation and hue, as in the recipe of semantic segmentation."""

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Generator, Tensor

from conmim_lightning.data.pixels import to_tensor


class PhotometricDistortion:
    """Each of four changes with probability 1/2; contrast comes before or after saturation and hue.

    As in mmsegmentation. Images that are not RGB keep saturation and hue.

    Args:
        brightness: largest number of grey levels to add or take off, 0 to 255.
        contrast: smallest and largest factor of all values.
        saturation: smallest and largest factor of the saturation.
        hue: largest turn of the hue, in degrees, 0 to 180.

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
        """(C, H, W) uint8 to the same, drawn from the generator."""
        drawn = torch.rand(9, generator=generator).tolist()
        brighter, contrasted, saturated, turned = (number < 0.5 for number in drawn[:4])
        values, late = pixels, drawn[4] < 0.5
        factor = _between(drawn[6], self.contrast)
        if brighter:
            values = _changed(values, 1.0, (2 * drawn[5] - 1) * self.brightness)
        if contrasted and not late:
            values = _changed(values, factor, 0.0)
        saturation = _between(drawn[7], self.saturation) if saturated else 1.0
        turn = (2 * drawn[8] - 1) * self.hue if turned else 0.0
        if len(pixels) == 3 and (saturation, turn) != (1.0, 0.0):
            values = _coloured(values, saturation, turn)
        if contrasted and late:
            values = _changed(values, factor, 0.0)
        return values


def _between(share: float, limits: tuple[float, ...]) -> float:
    return limits[0] + share * (limits[1] - limits[0])


def _changed(pixels: Tensor, factor: float, added: float) -> Tensor:
    """Values times a factor plus a number, cut to 0 to 255; by a table."""
    table = (torch.arange(256) * factor + added).clamp(0, 255).to(torch.uint8)
    return table[pixels.long()]


def _coloured(pixels: Tensor, saturation: float, turn: float) -> Tensor:
    """Saturation times a factor, hue turned by degrees."""
    image = Image.fromarray(pixels.permute(1, 2, 0).contiguous().numpy(), mode="RGB").convert("HSV")
    values: NDArray[np.uint8] = np.array(image)
    values[..., 0] += np.uint8(round(turn / 360 * 256) % 256)  # wraps
    values[..., 1] = np.clip(values[..., 1] * np.float32(saturation), 0, 255).astype(np.uint8)
    return to_tensor(Image.fromarray(values, mode="HSV").convert("RGB")).contiguous()
