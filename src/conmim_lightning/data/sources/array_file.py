"""Flat arrays in one file, mapped into memory: processes share its pages and read only what they need.

The description of millions of files must neither be Python objects (whose reference counts make every worker copy their
pages) nor be pickled to workers. It is therefore stored in flat arrays, and only the file's name is pickled.
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
_ALIGNMENT = 64  # bytes


class ArrayFile:
    """Named arrays with a header of JSON values, in memory or mapped from a file.

    Args:
        header: JSON values.
        arrays: arrays by name.
        path: file that the arrays are mapped from; None for arrays in memory.
    """

    def __init__(self, header: dict[str, Any], arrays: dict[str, NDArray[Any]], path: Path | None = None) -> None:
        self.header = header
        self.arrays = arrays
        self.path = path

    def __getitem__(self, name: str) -> NDArray[Any]:
        """Return an array; arrays from a file are read-only."""
        return self.arrays[name]

    def __reduce__(self) -> tuple[object, ...]:
        """Pickle a mapped file by its path."""
        if self.path is not None:
            return ArrayFile.load, (self.path,)
        return ArrayFile, (self.header, self.arrays)

    @property
    def nbytes(self) -> int:
        """Bytes of all arrays."""
        return sum(array.nbytes for array in self.arrays.values())

    def save(self, path: Path) -> None:
        """Write to a file atomically."""
        path.parent.mkdir(parents=True, exist_ok=True)
        partial = path.with_name(f"{path.name}.{platform.node()}-{os.getpid()}.partial")
        layout, offset = {}, 0
        for name, array in self.arrays.items():
            layout[name] = (array.dtype.str, array.shape, offset)
            offset += _aligned(array.nbytes)
        head = json.dumps({"header": self.header, "layout": layout, "bytes": offset}).encode()
        try:
            with partial.open("wb") as file:
                file.write(_MAGIC + len(head).to_bytes(8, "little") + head)
                start = _aligned(file.tell())
                for name, array in self.arrays.items():
                    file.seek(start + layout[name][2])
                    np.ascontiguousarray(array).tofile(file)
                file.truncate(start + offset)
                file.flush()
                os.fsync(file.fileno())
            partial.replace(path)
        finally:
            partial.unlink(missing_ok=True)

    @classmethod
    def load(cls, path: Path) -> "ArrayFile":
        """Map a file that ``save`` wrote.

        Raises:
            ValueError: the file has another format or is truncated.
        """
        with path.open("rb") as file:
            if file.read(len(_MAGIC)) != _MAGIC:
                raise ValueError(f"{str(path)!r} is not an index of this version")
            size = os.fstat(file.fileno()).st_size
            head = json.loads(file.read(min(size, int.from_bytes(file.read(8), "little"))))
            start = _aligned(file.tell())
            if size != start + head["bytes"]:
                raise ValueError(f"{str(path)!r} is truncated")
            mapped = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
        arrays = {
            name: np.frombuffer(mapped, dtype, int(np.prod(shape)), start + offset).reshape(shape)
            for name, (dtype, shape, offset) in head["layout"].items()
        }
        return cls(head["header"], arrays, path)


def load_or_none(path: Path) -> ArrayFile | None:
    """Load a file, or return None if it is missing or unreadable; an index can always be rebuilt."""
    try:
        return ArrayFile.load(path)
    except (OSError, ValueError, LookupError, TypeError, OverflowError, MemoryError):
        return None


class PackedStrings:
    """Many byte strings in one buffer, indexed from 0.

    Args:
        text: (bytes,) uint8, the strings one after the other.
        ends: (N,) int64, where each string ends.
    """

    def __init__(self, text: NDArray[np.uint8], ends: NDArray[np.int64]) -> None:
        self.text = text
        self.ends = ends

    @classmethod
    def of(cls, strings: Iterable[bytes]) -> "PackedStrings":
        """Pack strings."""
        text, lengths = bytearray(), []
        for string in strings:
            text += string
            lengths.append(len(string))
        return cls(np.frombuffer(bytes(text), np.uint8), np.cumsum(lengths, dtype=np.int64))

    @classmethod
    def join(cls, packed: Iterable["PackedStrings"]) -> "PackedStrings":
        """Concatenate packed strings."""
        texts, ends, start = [np.empty(0, np.uint8)], [np.empty(0, np.int64)], 0
        for strings in packed:
            texts.append(strings.text)
            ends.append(strings.ends + start)
            start += len(strings.text)
        return cls(np.concatenate(texts), np.concatenate(ends))

    def __len__(self) -> int:
        """Number of strings."""
        return len(self.ends)

    def __getitem__(self, index: int) -> bytes:
        """Return one string.

        Raises:
            IndexError: there is no such index.
        """
        if not 0 <= index < len(self.ends):
            raise IndexError(f"index {index} is out of range; there are {len(self.ends)} strings")
        start = int(self.ends[index - 1]) if index else 0
        return self.text[start : int(self.ends[index])].tobytes()


def _aligned(count: int) -> int:
    return -(-count // _ALIGNMENT) * _ALIGNMENT
