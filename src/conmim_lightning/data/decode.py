"""Bytes to pixels, with a clear account of what failed."""

import warnings
from io import BytesIO
from pathlib import Path

import numpy as np
import torch
from PIL import Image, ImageOps
from torch import Tensor

MODES = {1: "L", 3: "RGB", 4: "RGBA"}
"""Pillow's mode for a number of channels."""

_LARGEST = 300_000_000  # pixels; a decompression bomb ends here, not in swap
Image.MAX_IMAGE_PIXELS = _LARGEST  # Pillow warns from here on, which is left out, and refuses twice as many itself


class BrokenImageError(Exception):
    """A file that is no readable image; the message says why."""


def check_channels(channels: int) -> None:
    """Raise ValueError unless images can be decoded to this number of channels."""
    if channels not in MODES:
        raise ValueError(f"channels must be one of {sorted(MODES)} (grey, RGB, RGBA), got {channels}")


def decode(path: Path, channels: int = 3) -> Image.Image:
    """Read an image file, turned as its EXIF tag says.

    Args:
        path: JPEG, PNG, WebP, GIF (first frame), BMP or TIFF.
        channels: 1, 3 or 4.

    Raises:
        BrokenImageError: the file cannot be opened, is no image, is truncated, or has more than 300 million pixels.
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # Pillow warns of odd EXIF and of large sizes; both are handled here
            with Image.open(BytesIO(path.read_bytes())) as image:  # Pillow reads headers byte by byte
                if image.width * image.height > _LARGEST:
                    raise BrokenImageError(f"{image.width} x {image.height} pixels, more than {_LARGEST}")
                return _eight_bits(ImageOps.exif_transpose(image)).convert(MODES[channels])
    except BrokenImageError:
        raise
    except Exception as error:  # Pillow's decoders raise almost anything on hostile bytes
        raise BrokenImageError(f"{type(error).__name__}: {error}") from error


def _eight_bits(image: Image.Image) -> Image.Image:
    """16-bit grey as 8-bit grey; Pillow's own conversion would cut off all above 255."""
    if not image.mode.startswith("I"):
        return image
    return Image.fromarray((np.asarray(image).astype(np.int64).clip(0, 65535) >> 8).astype(np.uint8))


def to_tensor(image: Image.Image) -> Tensor:
    """Image to (C, H, W) uint8."""
    pixels = torch.frombuffer(bytearray(image.tobytes()), dtype=torch.uint8)
    return pixels.view(image.height, image.width, -1).permute(2, 0, 1).contiguous()
