"""Images that are arrays of numbers: ``.npy``, multi-band TIFF, and colours of more than 8 bits."""

from collections.abc import Callable
from io import BytesIO
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image, TiffImagePlugin
from torch import Tensor

from conmim_lightning.data.images.depth import ValueRange, to_eight_bits
from conmim_lightning.data.images.files import BrokenImageError, guarded
from conmim_lightning.data.images.orientation import FROM_BELOW, FROM_RIGHT, ROTATED, SIDEWAYS, TAG, orientation_of
from conmim_lightning.data.images.pixels import MODES, Box, resized_region, to_tensor

_NPY, _PNG = b"\x93NUMPY", b"\x89PNG\r\n\x1a\n"
_BIG_TIFF = (b"II+\0", b"MM\0+")
_TIFF = (b"II*\0", b"MM\0*", *_BIG_TIFF)
_BITS, _PHOTOMETRIC, _SAMPLES, _EXTRA = 258, 262, 277, 338  # tags of TIFF
_RGB, _GREY = 2, (0, 1)  # values of the photometric tag
_HEADER = 10_000  # largest number of bytes of an .npy header


class Layout(NamedTuple):
    """What the header of an array says: format, height, width, and a function that reads (H, W, C) values."""

    format: str
    height: int
    width: int
    read: Callable[[], NDArray[Any]]


class BandImage:
    """An image whose channels are read as they are.

    If the numbers of channels differ, grey, RGB and RGBA are converted into each other, and all others are broken.

    Args:
        layout: header of the image.
        channels: number of channels of the result.
        value_range: see ``depth.to_eight_bits``.
    """

    def __init__(self, layout: Layout, channels: int, value_range: ValueRange) -> None:
        self.layout = layout
        self.format, self.height, self.width = layout.format, layout.height, layout.width
        self.channels = channels
        self.value_range = value_range

    def whole(self) -> Tensor:
        """Return all pixels, (C, H, W) uint8.

        Raises:
            BrokenImageError: the image cannot be read, or has another number of channels.
        """
        values = guarded(self.layout.read)
        pixels = to_eight_bits(values, self.value_range)
        count = pixels.shape[2]
        if count == self.channels:
            return torch.from_numpy(np.array(pixels)).permute(2, 0, 1)
        if count not in MODES or self.channels not in MODES:
            raise BrokenImageError(f"Channels: it has {count} channels, data.decoder.channels is {self.channels}")
        image = Image.fromarray(pixels[..., 0] if count == 1 else pixels)
        return to_tensor(image.convert(MODES[self.channels]))

    def region(self, box: Box, size: int) -> Tensor:
        """Return a region resized to (C, size, size) uint8, bicubic with antialiasing."""
        return resized_region(self.whole(), box, size)


def band_layout(
    content: bytes, formats: tuple[str, ...], channels: int, value_range: ValueRange, *, upright: bool = True
) -> Layout | None:
    """Return the layout of an image that Pillow cannot read completely; None for all others.

    Args:
        content: content of the file.
        formats: allowed formats.
        channels: number of channels that are needed.
        value_range: see ``depth.to_eight_bits``.
        upright: turn images by their orientation tag.

    Raises:
        BrokenImageError: the header is damaged.
    """
    if "npy" in formats and content.startswith(_NPY):
        return guarded(lambda: _npy(content, channels))
    if "tiff" in formats and content.startswith(_TIFF):
        return guarded(lambda: _tiff(content, channels, value_range, upright))
    if "png" in formats and value_range and content.startswith(_PNG) and _is_deep_colour_png(content):
        return guarded(lambda: _png(content, upright))
    return None


def _npy(content: bytes, channels: int) -> Layout:
    file = BytesIO(content)
    version = np.lib.format.read_magic(file)
    read = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
    shape, fortran, dtype = read(file, max_header_size=_HEADER)
    if dtype.hasobject or dtype.kind not in "biuf":
        raise ValueError(f"an array of {dtype} is not an image")
    start, count = file.tell(), int(np.prod(shape, dtype=np.float64))
    if len(content) - start < count * dtype.itemsize:
        raise ValueError(f"the file ends within the {count} values of its array")

    def values() -> NDArray[Any]:
        array = np.frombuffer(content, dtype, count, start).reshape(shape, order="F" if fortran else "C")
        return array.astype(dtype.newbyteorder("="), copy=False)

    return _array_layout("NPY", shape, channels, values)


def _array_layout(name: str, shape: tuple[int, ...], channels: int, values: Callable[[], NDArray[Any]]) -> Layout:
    """Return the layout of an array whose channels come last, or first if only then their number is right."""
    if len(shape) not in (2, 3) or min(shape) < 1:
        raise ValueError(f"an array of shape {shape} is not an image: (H, W), (H, W, C) or (C, H, W) is needed")
    first = len(shape) == 3 and shape[2] != channels and shape[0] == channels

    def ordered() -> NDArray[Any]:
        array = values()
        if array.ndim == 2:
            return array[..., None]
        return array.transpose(1, 2, 0) if first else array

    height, width = shape[1:] if first else shape[:2]
    return Layout(name, int(height), int(width), ordered)


def _tiff(content: bytes, channels: int, value_range: ValueRange, upright: bool) -> Layout | None:
    file = BytesIO(content)
    directory = TiffImagePlugin.ImageFileDirectory_v2(content[: 16 if content.startswith(_BIG_TIFF) else 8])
    try:
        file.seek(directory.next)
        directory.load(file)
    except Exception:  # damaged bytes raise anything; Pillow names the damage
        return None
    samples = int(directory.get(_SAMPLES, 1))
    deep = max(np.atleast_1d(directory.get(_BITS, 1))) > 8
    unnamed = samples == 4 and directory.get(_PHOTOMETRIC) in (*_GREY, _RGB) and not any(_extra(directory))
    is_bands = (unnamed and channels == 4) or channels not in MODES
    is_bands = is_bands or (samples not in (1, 3, 4) and not _pillow_reads(content))
    if not is_bands and not (deep and samples > 1 and value_range):
        return None
    with _opened(content) as opened:
        shape = opened.series[0].shape
    layout = _array_layout("TIFF", shape, channels, lambda: _tiff_values(content))
    return _turned(layout, directory.get(TAG, 1)) if upright else layout


def _pillow_reads(content: bytes) -> bool:
    """Return whether Pillow has a mode for a TIFF of other samples, such as grey with alpha."""
    try:
        with Image.open(BytesIO(content), formats=("TIFF",)):
            return True
    except Exception:  # damaged bytes raise anything
        return False


def _turned(layout: Layout, orientation: object) -> Layout:
    """Return the layout of an image that is turned upright by its orientation tag."""
    if not isinstance(orientation, int) or orientation not in ROTATED:
        return layout
    width, height = layout.width, layout.height
    height, width = (width, height) if orientation in SIDEWAYS else (height, width)

    def values() -> NDArray[Any]:
        array = layout.read()
        array = array.transpose(1, 0, 2) if orientation in SIDEWAYS else array
        array = array[:, ::-1] if orientation in FROM_RIGHT else array
        return array[::-1] if orientation in FROM_BELOW else array

    return Layout(layout.format, height, width, values)


def _extra(directory: Any) -> tuple[int, ...]:
    """Return the kinds of the additional samples: 0 for unknown, 1 and 2 for alpha."""
    value = directory.get(_EXTRA, ())
    return tuple(value) if isinstance(value, tuple) else (value,)


def _opened(content: bytes) -> Any:
    try:
        import tifffile
    except ImportError as error:
        raise BrokenImageError(
            "NoTifffile: multi-band TIFF, or colours of 16 bits, need tifffile: pip install "
            "'conmim-lightning[scientific]'"
        ) from error
    return tifffile.TiffFile(BytesIO(content))


def _tiff_values(content: bytes) -> NDArray[Any]:
    """Return the values of the first image of a TIFF; its channels are samples, planes or pages."""
    with _opened(content) as opened:
        return opened.series[0].asarray()


def _is_deep_colour_png(content: bytes) -> bool:
    """Return whether a PNG has 16 bits per channel and more than one channel."""
    return len(content) > 25 and content[24] == 16 and content[25] != 0


def _png(content: bytes, upright: bool) -> Layout:
    from torchvision.io import ImageReadMode, decode_image

    width, height = (int.from_bytes(content[start : start + 4], "big") for start in (16, 20))

    def values() -> NDArray[Any]:
        pixels = decode_image(torch.frombuffer(bytearray(content), dtype=torch.uint8), ImageReadMode.UNCHANGED)
        array = pixels.permute(1, 2, 0).numpy()
        return array[..., :1] if array.shape[2] == 2 else array  # grey, without its alpha

    layout = Layout("PNG", height, width, values)
    if not upright:
        return layout
    with Image.open(BytesIO(content), formats=("PNG",)) as opened:
        return _turned(layout, orientation_of(opened, content))
