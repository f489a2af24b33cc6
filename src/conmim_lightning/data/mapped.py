"""Flat arrays in one file, mapped into memory: processes share its pages and nothing is read before it is needed.

What describes millions of files must neither be Python objects (whose reference counts make every worker copy their
pages) nor be pickled to workers. So it lies in flat arrays, and only the file's name travels.
"""

import json
import mmap
import os
import platform
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

_MAGIC = b"conmim-arrays-1\n"
_ALIGN = 64


class Arrays:
    """Named arrays with a header of JSON values, in memory or mapped from a file.

    Args:
        header: JSON values.
        arrays: by name.
        path: the file that they are mapped from; None in memory.
    """

    def __init__(self, header: dict[str, Any], arrays: dict[str, NDArray[Any]], path: Path | None = None) -> None:
        self.header = header
        self.arrays = arrays
        self.path = path

    def __getitem__(self, name: str) -> NDArray[Any]:
        """An array; one from a file cannot be written to."""
        return self.arrays[name]

    def __reduce__(self) -> tuple[Any, ...]:
        """A mapped file travels by name."""
        if self.path is not None:
            return Arrays.load, (self.path,)
        return Arrays, (self.header, self.arrays)

    @property
    def nbytes(self) -> int:
        """Bytes of all arrays."""
        return sum(array.nbytes for array in self.arrays.values())

    def save(self, path: Path) -> None:
        """Write to a file that appears whole or not at all."""
        path.parent.mkdir(parents=True, exist_ok=True)
        partial = path.with_name(f"{path.name}.{platform.node()}-{os.getpid()}.partial")
        layout, place = {}, 0
        for name, array in self.arrays.items():
            layout[name] = (array.dtype.str, array.shape, place)
            place += -(-array.nbytes // _ALIGN) * _ALIGN
        head = json.dumps({"header": self.header, "layout": layout, "bytes": place}).encode()
        try:
            with partial.open("wb") as file:
                file.write(_MAGIC + len(head).to_bytes(8, "little") + head)
                start = -(-file.tell() // _ALIGN) * _ALIGN
                for name, array in self.arrays.items():
                    file.seek(start + layout[name][2])
                    np.ascontiguousarray(array).tofile(file)
                file.truncate(start + place)
                file.flush()
                os.fsync(file.fileno())
            partial.replace(path)
        finally:
            partial.unlink(missing_ok=True)

    @classmethod
    def load(cls, path: Path) -> "Arrays":
        """Map a file that ``save`` wrote.

        Raises:
            ValueError: the file is none of these, or is cut off.
        """
        with path.open("rb") as file:
            if file.read(len(_MAGIC)) != _MAGIC:
                raise ValueError(f"{str(path)!r} is no index of this version")
            size = os.fstat(file.fileno()).st_size
            head = json.loads(file.read(min(size, int.from_bytes(file.read(8), "little"))))
            start = -(-file.tell() // _ALIGN) * _ALIGN
            if size != start + head["bytes"]:
                raise ValueError(f"{str(path)!r} is cut off")
            mapped = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
        arrays = {
            name: np.frombuffer(mapped, dtype, int(np.prod(shape)), start + place).reshape(shape)
            for name, (dtype, shape, place) in head["layout"].items()
        }
        return cls(head["header"], arrays, path)


def load_or_none(path: Path) -> Arrays | None:
    """What a file holds, or None if there is none that can be read; an index can always be made again."""
    try:
        return Arrays.load(path)
    except (OSError, ValueError, LookupError, TypeError, OverflowError, MemoryError):
        return None


class Names:
    """Many names as one buffer; whole numbers from 0 name them.

    Args:
        text: (bytes,) uint8, the names one after the other.
        ends: (N,) int64, where each name ends.
    """

    def __init__(self, text: NDArray[np.uint8], ends: NDArray[np.int64]) -> None:
        self.text = text
        self.ends = ends

    @classmethod
    def of(cls, names: Iterable[bytes]) -> "Names":
        """Pack names."""
        text, lengths = bytearray(), []
        for name in names:
            text += name
            lengths.append(len(name))
        return cls(np.frombuffer(bytes(text), np.uint8), np.cumsum(lengths, dtype=np.int64))

    def __len__(self) -> int:
        """Number of names."""
        return len(self.ends)

    def __getitem__(self, index: int) -> bytes:
        """One name.

        Raises:
            IndexError: there is no such number.
        """
        if not 0 <= index < len(self.ends):
            raise IndexError(f"no name has the number {index}; there are {len(self.ends)}")
        start = int(self.ends[index - 1]) if index else 0
        return self.text[start : int(self.ends[index])].tobytes()
