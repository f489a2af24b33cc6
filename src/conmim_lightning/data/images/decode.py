"""Decoding of images, with size limits and a reason for every failure."""

import math
from collections.abc import Sequence
from io import BytesIO

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image, ImageOps
from torch import Tensor

from conmim_lightning.data.images.bands import BandImage, band_layout
from conmim_lightning.data.images.depth import check_value_range, to_eight_bits, unscaled_pgm
from conmim_lightning.data.images.files import BrokenImageError, guarded
from conmim_lightning.data.images.formats import DEFAULT_FORMATS, check_formats, pillow_names
from conmim_lightning.data.images.jpeg_header import jpeg_header
from conmim_lightning.data.images.orientation import FROM_BELOW, FROM_RIGHT, ROTATED, SIDEWAYS, orientation_of
from conmim_lightning.data.images.pixels import MODES, AnyImage, Box, resized_region, to_tensor

MAX_CHANNELS = 32

_SIXTEEN_BITS = ("PNG", "PPM")  # Pillow may read them to 32 bits
_FAST = {("L", 1): "GRAY", ("RGB", 3): "RGB", ("L", 3): "RGB"}
"""simplejpeg's colour space by (JPEG mode, output channels), where its pixels equal Pillow's."""

try:
    from simplejpeg import decode_jpeg, decode_jpeg_header
except ImportError:  # no wheel for this platform
    decode_jpeg = decode_jpeg_header = None

Image.MAX_IMAGE_PIXELS = None  # Decoder has its own limits


class Decoder:
    """Decode images of the chosen formats (of animations, the first frame), rotated by their EXIF or XMP orientation.

    simplejpeg (libjpeg-turbo), if installed, decodes JPEGs that need no rotation; Pillow decodes everything else. The
    pixels are the same. If a region is much larger than the requested size, a JPEG is decoded at 1/2, 1/4 or 1/8 of
    its size. The region still has at least ``reducing_gap`` times the width and height of the result. A gap of 2
    changes photographs by half a grey level on average and single values by up to 20.

    Args:
        channels: 1 (grey), 3 (RGB), 4 (RGBA), or up to 32 for multi-band TIFF and ``.npy``, whose channels are read
            as they are.
        max_pixels: images with more pixels are rejected before decoding.
        max_bytes: files with more bytes are rejected before reading.
        max_scans: JPEGs with more scans are rejected; each scan takes as much time as a whole decoding.
        reducing_gap: smallest ratio of decoded to requested size, >= 1; null always decodes at full size.
        fast: use simplejpeg where possible; false uses Pillow for everything.
        upright: rotate images by their orientation tag; false if annotations were made without it.
        formats: allowed formats, see ``formats.FORMATS``.
        value_range: values of more than 8 bits that become 0 and 255, such as [0, 4095] for 12 bits in 16; null for
            0 to 65535, and an error for floats and other integers.

    Raises:
        ValueError: an argument is out of its range.
    """

    def __init__(
        self,
        *,
        channels: int = 3,
        max_pixels: int = 300_000_000,
        max_bytes: int = 500_000_000,
        max_scans: int = 100,
        reducing_gap: float | None = 2.0,
        fast: bool = True,
        upright: bool = True,
        formats: Sequence[str] = DEFAULT_FORMATS,
        value_range: Sequence[float] | None = None,
    ) -> None:
        if not 1 <= channels <= MAX_CHANNELS:
            raise ValueError(
                f"channels must be 1 (grey), 3 (RGB), 4 (RGBA), or the number of bands up to {MAX_CHANNELS}, "
                f"got {channels}"
            )
        limits = {"max_pixels": max_pixels, "max_bytes": max_bytes, "max_scans": max_scans}
        if too_small := {name: value for name, value in limits.items() if value < 1}:
            raise ValueError(f"limits of a decoder must be at least 1, got {too_small}")
        if reducing_gap is not None and not reducing_gap >= 1:
            raise ValueError(f"reducing_gap must be at least 1, or null, got {reducing_gap}")
        self.channels = channels
        self.max_pixels = max_pixels
        self.max_bytes = max_bytes
        self.max_scans = max_scans
        self.reducing_gap = reducing_gap
        self.fast = fast
        self.upright = upright
        self.formats = check_formats(formats)
        self.value_range = check_value_range(value_range)

    def open(self, content: bytes) -> AnyImage:
        """Read an image's header.

        Raises:
            BrokenImageError: the bytes are not an image, or exceed a limit.
        """
        layout = band_layout(content, self.formats, self.channels, self.value_range, upright=self.upright)
        if layout is None:
            return EncodedImage(content, self)
        self.check_pixels(layout.width, layout.height)
        return BandImage(layout, self.channels, self.value_range)

    def decode(self, content: bytes) -> Tensor:
        """Decode a whole image to (C, H, W) uint8; BrokenImageError if it is not an image or exceeds a limit."""
        return self.open(content).whole()

    def check_pixels(self, width: int, height: int) -> None:
        """Raise BrokenImageError if an image has more than ``max_pixels`` pixels."""
        if width * height > self.max_pixels:
            raise BrokenImageError(f"TooLarge: {width} x {height} pixels, more than {self.max_pixels}")


class EncodedImage:
    """An encoded image that is decoded on demand.

    Args:
        content: content of the image file.
        decoder: decoder with its settings and limits.

    Attributes:
        width: width of the upright image in pixels.
        height: height of the upright image in pixels.
        format: Pillow's name of the format.

    Raises:
        BrokenImageError: the bytes are not an image, or exceed a limit.
    """

    def __init__(self, content: bytes, decoder: Decoder) -> None:
        self.content = content
        self.decoder = decoder
        if not self._open_jpeg():
            image = guarded(self._open)
            self.orientation = orientation_of(image, content) if decoder.upright else 1
            self.format, self.mode = str(image.format), image.mode
            self.width, self.height = image.size[::-1] if self.orientation in SIDEWAYS else image.size
        decoder.check_pixels(self.width, self.height)
        if decoder.channels not in MODES:
            raise BrokenImageError(f"Channels: it has no bands, data.decoder.channels is {decoder.channels}")
        progressive = self.format == "JPEG" and jpeg_header(content).progressive
        if progressive and (scans := content.count(b"\xff\xda")) > decoder.max_scans:
            raise BrokenImageError(f"TooManyScans: {scans} scans, more than {decoder.max_scans}")

    def whole(self) -> Tensor:
        """Decode the whole image to (C, H, W) uint8.

        Raises:
            BrokenImageError: the image cannot be decoded.
        """
        if (pixels := self._fast_pixels(1)) is not None:
            return torch.from_numpy(pixels).permute(2, 0, 1)
        return to_tensor(guarded(lambda: self._pixels(1)))

    def region(self, box: Box, size: int) -> Tensor:
        """Resize a region to (C, size, size) uint8, bicubic with antialiasing.

        Args:
            box: left, top, right and bottom of the region, in pixels of the upright image.
            size: side of the result in pixels.

        Raises:
            BrokenImageError: the image cannot be decoded.
        """
        reduced = self._reduction(box, size)
        if reduced == 1:
            return resized_region(self.whole(), box, size)
        pixels = self._fast_pixels(reduced)
        if pixels is not None:
            image = Image.fromarray(pixels if pixels.shape[2] > 1 else pixels[..., 0])
        else:
            image = guarded(lambda: self._pixels(reduced))
        # A side that is not a multiple of the reduction ends in a partial pixel; a rotation may move it to the start.
        across = image.width - self.width / reduced if self.orientation in FROM_RIGHT else 0.0
        down = image.height - self.height / reduced if self.orientation in FROM_BELOW else 0.0
        right, bottom = box[2] / reduced + across, box[3] / reduced + down
        scaled = (
            box[0] / reduced + across,
            box[1] / reduced + down,
            min(right, image.width),
            min(bottom, image.height),
        )
        return to_tensor(image.resize((size, size), Image.Resampling.BICUBIC, box=scaled))

    def _open_jpeg(self) -> bool:
        """Parse the header of an upright grey or YCbCr JPEG, else return False. Pillow takes ten times as long."""
        if not (self.decoder.fast and decode_jpeg_header and self.content.startswith(b"\xff\xd8\xff")):
            return False
        if "jpeg" not in self.decoder.formats or jpeg_header(self.content).oriented:
            return False
        try:
            height, width, colours, _ = decode_jpeg_header(self.content)
        except ValueError:
            return False
        self.height, self.width = int(height), int(width)
        self.format, self.mode, self.orientation = "JPEG", "L" if colours == "Gray" else "RGB", 1
        return colours in ("Gray", "YCbCr")

    def _reduction(self, box: Box, size: int) -> int:
        """Return the largest reduction of 1, 2, 4 and 8 that leaves the region large enough."""
        if self.decoder.reducing_gap is None or self.format != "JPEG":
            return 1
        ratio = min(box[2] - box[0], box[3] - box[1]) / (size * self.decoder.reducing_gap)
        return 1 << min(3, int(math.log2(ratio))) if ratio >= 2 else 1

    def _open(self) -> Image.Image:
        return Image.open(BytesIO(self.content), formats=pillow_names(self.decoder.formats))

    def _fast_pixels(self, reduced: int) -> NDArray[np.uint8] | None:
        """Decode to (H, W, C) with simplejpeg; return None if it does not apply or fails, so that Pillow is used."""
        mode = _FAST.get((self.mode, self.decoder.channels))
        if (
            not self.decoder.fast
            or decode_jpeg is None
            or self.format != "JPEG"
            or mode is None
            or self.orientation in ROTATED
        ):
            return None
        smallest = (-(-self.height // reduced), -(-self.width // reduced)) if reduced > 1 else (0, 0)
        try:
            return decode_jpeg(self.content, mode, min_height=smallest[0], min_width=smallest[1])
        except ValueError:
            return None

    def _pixels(self, reduced: int) -> Image.Image:
        """Decode with Pillow and rotate upright."""
        with self._open() as image:
            if reduced > 1:
                image.draft(image.mode, (image.width // reduced, image.height // reduced))
            upright = ImageOps.exif_transpose(image) if self.orientation in ROTATED else image
            return self._eight_bits(upright).convert(MODES[self.decoder.channels])

    def _eight_bits(self, image: Image.Image) -> Image.Image:
        """Convert grey of more bits; Pillow's own conversion would clip all values above 255."""
        if not image.mode.startswith(("I", "F")):
            return image
        values = np.asarray(image)
        if values.dtype == np.int32 and self.format in _SIXTEEN_BITS:
            values = values.clip(0, 65535).astype(np.uint16)
        if self.format == "PPM" and self.decoder.value_range:
            values = unscaled_pgm(values, self.content)
        return Image.fromarray(to_eight_bits(values, self.decoder.value_range))
