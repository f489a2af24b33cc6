"""From an image to the input of a model, as in evaluation."""

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from conmim_lightning.data.images.decode import Decoder
from conmim_lightning.data.images.files import BrokenImageError
from conmim_lightning.data.images.pixels import AnyImage
from conmim_lightning.data.sources.given import GivenImage, GivenImages, image_bytes
from conmim_lightning.models.normalize import Normalize

Images = Tensor | GivenImage | Sequence[GivenImage]
"""Normalised (B, C, H, W) images, one image, or several."""


class Preprocessing:
    """Decode, crop and normalise an image.

    Args:
        crop: transform of a decoded image to (C, size, size) uint8; nothing may be random.
        size: pixels per side of the result.
        mean: mean per channel, on a scale of 0 to 1.
        std: standard deviation per channel, on a scale of 0 to 1.
        decoder: decoder of the image bytes; None for the default.
    """

    def __init__(
        self,
        crop: Callable[[AnyImage], Tensor],
        *,
        size: int,
        mean: Sequence[float],
        std: Sequence[float],
        decoder: Decoder | None = None,
    ) -> None:
        self.crop = crop
        self.size = size
        self.mean, self.std = list(mean), list(std)
        self.decoder = decoder or Decoder(channels=len(self.mean))
        self.normalize = Normalize(mean, std)

    def __call__(self, image: GivenImage) -> Tensor:
        """Return the model's input, (C, size, size) float32.

        Raises:
            ValueError: the image cannot be read; the message says why.
        """
        try:
            pixels = self.crop(self.decoder.open(image_bytes(image, self.decoder.max_bytes)))
        except BrokenImageError as error:
            raise ValueError(f"{GivenImages([image]).name(0)!r} cannot be read: {error}") from error
        return self.normalize(pixels[None])[0]

    def batch(self, images: Sequence[GivenImage]) -> Tensor:
        """Return the input of several images, (B, C, size, size) float32."""
        return torch.stack([self(image) for image in images])

    def __repr__(self) -> str:
        """Return the settings."""
        settings = ", ".join(f"{name}={value}" for name, value in vars(self.crop).items())
        return f"Preprocessing({type(self.crop).__name__}({settings}), mean={self.mean}, std={self.std})"


def as_list(images: GivenImage | Sequence[GivenImage]) -> list[GivenImage]:
    """Return one image, or several, as a list; TypeError for a tensor, whose size and scale are unknown."""
    if isinstance(images, Tensor):
        raise TypeError("images are paths, bytes or images of Pillow; a tensor is taken by features, not by predict")
    return list(images) if isinstance(images, Sequence) and not isinstance(images, str | bytes) else [images]
