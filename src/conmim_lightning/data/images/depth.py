"""Conversion of pixel values to 8 bits."""

import math
import re
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from conmim_lightning.data.images.files import BrokenImageError

ValueRange = tuple[float, float] | None


def check_value_range(value_range: Sequence[float] | None) -> ValueRange:
    """Return the range as a tuple.

    Raises:
        ValueError: it is not two finite numbers, the smaller one first.
    """
    if value_range is None:
        return None
    numbers = [number for number in value_range if isinstance(number, int | float) and math.isfinite(number)]
    if len(value_range) != 2 or len(numbers) != 2 or not numbers[0] < numbers[1]:
        raise ValueError(f"decoder.value_range is [smallest, largest], such as [0, 4095], or null, got {value_range}")
    return float(numbers[0]), float(numbers[1])


def to_eight_bits(values: NDArray[Any], value_range: ValueRange) -> NDArray[np.uint8]:
    """Convert pixel values of any type to uint8.

    8-bit values are not changed, and black and white become 0 and 255. Of 16 bits without a range, the upper 8 are
    used. All other values are scaled linearly from the range to 0 to 255, rounded, and limited to it.

    Args:
        values: pixel values.
        value_range: values that become 0 and 255; None for 0 to 65535.

    Raises:
        BrokenImageError: values other than 8 or unsigned 16 bits, without a range; or values that are not finite.
    """
    if values.dtype == np.bool_:
        return values.astype(np.uint8) * np.uint8(255)
    if values.dtype == np.uint8:
        return values
    if values.dtype.kind not in "iuf":
        raise BrokenImageError(f"Values: its values are {values.dtype}, which are not numbers of pixels")
    if value_range is None:
        return _upper_bits(values)
    if values.dtype.kind == "f" and (wrong := int((~np.isfinite(values)).sum())):
        raise BrokenImageError(f"NotFinite: {wrong} of {values.size} values are NaN or infinite")
    low, high = value_range
    scaled = (values.astype(np.float64) - low) * (255 / (high - low))
    return np.rint(scaled.clip(0, 255)).astype(np.uint8)


def _upper_bits(values: NDArray[Any]) -> NDArray[np.uint8]:
    if values.dtype.kind == "u" and values.dtype.itemsize == 2:  # of either byte order
        return (values >> 8).astype(np.uint8)
    shown = f" from {np.nanmin(values):.6g} to {np.nanmax(values):.6g}" if values.size else ""
    raise BrokenImageError(
        f"NoValueRange: it has {values.dtype} values{shown}; data.decoder.value_range=[smallest,largest] says which "
        "become black and white"
    )


def unscaled_pgm(values: NDArray[Any], content: bytes) -> NDArray[Any]:
    """Return the values in a PGM file, which Pillow scales from the largest value of its header to 65535."""
    header = re.match(rb"P[25]\s+(?:#[^\n]*\n\s*)*\d+\s+(?:#[^\n]*\n\s*)*\d+\s+(?:#[^\n]*\n\s*)*(\d+)\s", content)
    largest = int(header[1]) if header else 65535
    return values if largest >= 65535 else np.rint(values * (largest / 65535)).astype(np.uint16)
