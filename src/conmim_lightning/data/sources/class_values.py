"""What the values or colours of a class map mean, and reading them."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from conmim_lightning.data.images.files import BrokenImageError
from conmim_lightning.data.sources.class_tables import COLORS, IGNORED_COLORS, IGNORED_VALUES, VALUES

Values = Mapping[str, int] | str | None
Colors = Mapping[str, Sequence[int]] | str | None
Ignored = Sequence[int | Sequence[int]] | None

_MODES = ("1", "L", "P", "I", "I;16", "I;16B", "I;16L")
_FORMATS = ("PNG", "BMP", "TIFF", "GIF")
_SHOWN = 5
_USUALLY_IGNORED = 255


class ClassValues:
    """The value of each class in the maps: consecutive, by name, or colours by name.

    Args:
        num_classes: number of classes K.
        first_class: value of the first class, if the others follow.
        values: value by class name, or the name of a table: "cityscapes" (label ids) or "pascal_voc"; null for none.
        colors: colour [red, green, blue] by class name, or the name of such a table; null for none.
        ignored: values or colours without a class; null for those of the table or, of values, 255 unless a class has
            it.

    Attributes:
        ignores_by_default: whether the ignored values were not given.

    Raises:
        ValueError: both values and colors are given, a table is unknown, the number of classes is not K, a value is
            out of its range or repeated, or an ignored value is also the value of a class.
    """

    def __init__(
        self,
        num_classes: int,
        *,
        first_class: int = 0,
        values: Values = None,
        colors: Colors = None,
        ignored: Ignored = None,
    ) -> None:
        if values is not None and colors is not None:
            raise ValueError("data.source.values and data.source.colors exclude each other: maps have one or the other")
        self.has_colors = colors is not None
        named = _table("colors", colors, COLORS) if self.has_colors else _table("values", values, VALUES)
        if named is not None and len(named) != num_classes:
            raise ValueError(
                f"data.source.{self._option} names {len(named)} classes, data.num_classes is {num_classes}"
            )
        self.names = None if named is None else [str(name) for name in named]
        if named is None:
            self.numbers = list(range(first_class, first_class + num_classes))
        else:
            self.numbers = [self._number(value) for value in named.values()]
        if repeated := sorted({self.shown(number) for number in self.numbers if self.numbers.count(number) > 1}):
            raise ValueError(f"data.source.{self._option} gives {', '.join(repeated)} to more than one class")
        self.ignored = self._ignored(ignored, colors if self.has_colors else values)
        self.ignores_by_default = ignored is None
        if taken := [self.shown(number) for number in self.ignored if number in self.numbers]:
            raise ValueError(f"data.source.ignored holds {', '.join(taken)}, also the value of a class")
        order = np.argsort(self.numbers)
        self._sorted = np.asarray(self.numbers, np.int64)[order]
        self._classes = order.astype(np.int16)

    @property
    def _option(self) -> str:
        return "colors" if self.has_colors else "values"

    def classes(self, path: Path) -> NDArray[np.int16]:
        """Read a class map as classes from 0, -1 for none: (H, W) int16.

        Raises:
            BrokenImageError: the map cannot be read.
            ValueError: it is no class map, or it has values that are neither classes nor ignored.
        """
        numbers = _read(path, self.has_colors)
        positions = np.searchsorted(self._sorted, numbers).clip(max=len(self._sorted) - 1)
        is_class = self._sorted[positions] == numbers
        unknown = ~is_class & ~np.isin(numbers, self.ignored)
        if unknown.any():
            raise ValueError(self._explain(path, np.unique(numbers), np.unique(numbers[unknown])))
        return np.where(is_class, self._classes[positions], np.int16(-1))

    def binary_mistake(self, counts: NDArray[np.int64], ignored: int) -> str:
        """Return a sentence if maps look like binary masks of 0 and 255 whose objects are ignored; empty otherwise.

        Args:
            counts: (K,) number of pixels of each class, in a sample of maps.
            ignored: number of pixels without a class.
        """
        alone = len(counts) > 0 and counts[0] > 0 and not counts[1:].any()
        if self.has_colors or not (alone and ignored and self.numbers[0] == 0 and _USUALLY_IGNORED in self.ignored):
            return ""
        return (
            "the class maps have only the values 0 and 255, and 255 is ignored: data.source.values={background: 0, "
            "object: 255} reads 255 as a class"
        )

    def encode(self, classes: NDArray[np.integer]) -> NDArray[Any]:
        """Return the values of (H, W) classes, uint8 or uint16, or their colours, (H, W, 3) uint8."""
        numbers = np.asarray(self.numbers)[classes]
        if self.has_colors:
            return np.stack([numbers >> 16, numbers >> 8 & 255, numbers & 255], -1).astype(np.uint8)
        return numbers.astype(np.uint8 if max(self.numbers) < 256 else np.uint16)

    def shown(self, number: int) -> str:
        """Format a value or colour for messages."""
        return str([number >> 16, number >> 8 & 255, number & 255]) if self.has_colors else str(number)

    def _number(self, value: Any) -> int:
        """Return a value, or a colour as one number; ValueError if it is out of its range."""
        if not self.has_colors:
            if isinstance(value, bool) or not isinstance(value, int):
                raise ValueError(f"data.source.values takes one whole number per class, got {value!r}")
            return value
        if isinstance(value, str) or not isinstance(value, Sequence) or len(value) != 3 or not _are_bytes(value):
            raise ValueError(f"data.source.colors takes [red, green, blue] from 0 to 255, got {value!r}")
        return value[0] << 16 | value[1] << 8 | value[2]

    def _ignored(self, ignored: Ignored, given: object) -> list[int]:
        if ignored is not None:
            return [self._number(value) for value in ignored]
        table: Any = IGNORED_COLORS if self.has_colors else IGNORED_VALUES
        if isinstance(given, str):
            return [self._number(value) for value in table[given]]
        usual = not self.has_colors and _USUALLY_IGNORED not in self.numbers
        return [_USUALLY_IGNORED] if usual else []

    def _explain(self, path: Path, present: NDArray[np.int64], unknown: NDArray[np.int64]) -> str:
        listed = ", ".join(self.shown(int(number)) for number in unknown[:_SHOWN])
        more = f" and {len(unknown) - _SHOWN} more" if len(unknown) > _SHOWN else ""
        known = ", ".join(self.shown(number) for number in self.numbers[:_SHOWN])
        known += ", ..." if len(self.numbers) > _SHOWN else ""
        ignored = ", ".join(self.shown(number) for number in self.ignored[:_SHOWN]) or "none"
        hint = "data.source.ignored=[...] leaves values out"
        if not self.has_colors and present.tolist() == [0, 255]:
            hint = "a map of 0 and 255 is read with data.source.values={background: 0, object: 255}"
        elif not self.has_colors:
            hint += ", data.source.values={name: value, ...} names those of the classes"
        return (
            f"class map {str(path)!r} has values that are not classes: {listed}{more}; classes have {known}, ignored: "
            f"{ignored}; {hint}"
        )


def _table(option: str, given: Any, tables: Mapping[str, Mapping[str, Any]]) -> Mapping[str, Any] | None:
    if isinstance(given, str):
        if given not in tables:
            raise ValueError(f"data.source.{option} is a dictionary or one of {', '.join(tables)}, got {given!r}")
        return tables[given]
    return given


def _are_bytes(value: Sequence[object]) -> bool:
    return all(isinstance(number, int) and 0 <= number <= 255 for number in value)


def _read(path: Path, as_colors: bool) -> NDArray[np.int64]:
    """Read a class map, (H, W): its integers, or its colours as numbers."""
    if path.suffix.lower() == ".npy":
        return _read_array(path, as_colors)
    try:
        with Image.open(path, formats=_FORMATS) as opened:
            mode = opened.mode
            is_readable = as_colors or mode in _MODES
            values = np.asarray(opened.convert("RGB") if as_colors else opened) if is_readable else None
    except Exception as error:  # damaged bytes make Pillow raise anything
        raise BrokenImageError(f"class map {str(path)!r}: {type(error).__name__}: {error}") from error
    if values is None:
        raise ValueError(
            f"class map {str(path)!r} has the pixel mode {mode}; one integer per pixel is needed, or colours with "
            "data.source.colors={name: [red, green, blue], ...}"
        )
    numbers = values.astype(np.int64)
    return numbers if not as_colors else numbers[..., 0] << 16 | numbers[..., 1] << 8 | numbers[..., 2]


def _read_array(path: Path, as_colors: bool) -> NDArray[np.int64]:
    try:
        values = np.load(path, allow_pickle=False)
    except Exception as error:  # damaged bytes raise anything
        raise BrokenImageError(f"class map {str(path)!r}: {type(error).__name__}: {error}") from error
    if as_colors or not isinstance(values, np.ndarray) or values.ndim != 2 or values.dtype.kind not in "biu":
        shape = f"{getattr(values, 'dtype', '')} {getattr(values, 'shape', '')}"
        raise ValueError(f"class map {str(path)!r} is an array {shape}; (H, W) integers are needed, without colors")
    return values.astype(np.int64)
