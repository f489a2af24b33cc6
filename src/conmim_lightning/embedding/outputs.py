"""Files of features: Parquet, NumPy and safetensors, written chunk by chunk."""

import json
import os
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from conmim_lightning.data.sources.name_list import to_line
from conmim_lightning.embedding.store import Chunk
from conmim_lightning.files import replacing

Read = Callable[[Sequence[str]], Iterable[Chunk]]
"""Function of names of features that returns all chunks in order, with these features, as often as it is called."""

Shapes = Mapping[str, tuple[int, ...]]
"""Shape of one image's value by feature."""

SUFFIXES = (".parquet", ".npy", ".safetensors")


def check_output(output: Path, features: Sequence[str]) -> None:
    """Check what an output can hold, before anything is computed.

    Raises:
        ValueError: the suffix is unknown, the file exists, a .npy would hold several features, or pyarrow is missing.
    """
    if output.suffix not in SUFFIXES:
        raise ValueError(f"output {str(output)!r} must end in {', '.join(SUFFIXES)}")
    if output.exists():
        raise ValueError(f"output {str(output)!r} exists; remove it, or choose another one")
    if output.suffix == ".npy" and len(features) > 1:
        raise ValueError(f".npy holds one feature, got {', '.join(features)}; choose .safetensors or .parquet")
    if output.suffix == ".parquet":
        _pyarrow()


def write_output(
    output: Path, read: Read, shapes: Shapes, *, half: bool = False, classes: Sequence[str] = ()
) -> list[Path]:
    """Write all features, and the names beside them; return the paths of the files.

    Parquet has the columns ``name``, with labels also ``label`` and ``class``, and one per feature (a list of numbers).
    NumPy and safetensors have a table of these columns beside them, ``<stem>.tsv``, whose rows are theirs.
    ``<stem>.broken.tsv`` lists the images that cannot be read; they have no row.

    Args:
        output: file to write.
        read: function that reads all chunks in order.
        shapes: shape of one image's value by feature.
        half: whether the features are float16 instead of float32.
        classes: names of the classes; empty without labels.
    """
    written = [output]
    if output.suffix == ".parquet":
        _write_parquet(output, read, shapes, classes)
    else:
        write = _write_npy if output.suffix == ".npy" else _write_safetensors
        write(output, read, shapes, np.dtype(np.float16 if half else np.float32))
        written.append(output.with_suffix(".tsv"))
        _write_lines(written[-1], _rows(read, classes))
    broken = [line for chunk in read(()) for line in chunk.broken]
    if broken:
        written.append(output.with_suffix(".broken.tsv"))
        _write_lines(written[-1], map(os.fsdecode, broken))
    return written


def _rows(read: Read, classes: Sequence[str]) -> Iterator[str]:
    """Yield the lines of the table of names, its header first."""
    yield "name\tlabel\tclass" if classes else "name"
    for chunk in read(()):
        labels: list[int] = chunk.labels.tolist()
        for name, label in zip(chunk.names, labels, strict=True):
            line = to_line(os.fsdecode(name))
            yield f"{line}\t{label}\t{to_line(classes[label])}" if classes else line


def _write_lines(path: Path, lines: Iterable[str]) -> None:
    with replacing(path) as temporary, temporary.open("w", encoding="utf-8", errors="surrogateescape") as file:
        file.writelines(line + "\n" for line in lines)


def _write_npy(output: Path, read: Read, shapes: Shapes, dtype: np.dtype[Any]) -> None:
    ((name, shape),) = shapes.items()
    with replacing(output) as temporary:
        values = np.lib.format.open_memmap(temporary, "w+", dtype, (_count(read), *shape))
        start = 0
        for chunk in read([name]):
            values[start : start + len(chunk.labels)] = chunk.features[name]
            start += len(chunk.labels)
        values.flush()


def _write_safetensors(output: Path, read: Read, shapes: Shapes, dtype: np.dtype[Any]) -> None:
    """Write the header, then one tensor after the other; the library itself needs them all in memory."""
    count, layout, offset = _count(read), dict[str, Any](), 0
    for name, shape in shapes.items():
        size = count * int(np.prod(shape)) * dtype.itemsize
        kind = {2: "F16", 4: "F32"}[dtype.itemsize]
        layout[name] = {"dtype": kind, "shape": [count, *shape], "data_offsets": [offset, offset + size]}
        offset += size
    header = json.dumps(layout).encode()
    header += b" " * (-len(header) % 8)
    with replacing(output) as temporary, temporary.open("wb") as file:
        file.write(len(header).to_bytes(8, "little") + header)
        for name in shapes:
            for chunk in read([name]):
                file.write(np.ascontiguousarray(chunk.features[name]).data)


def _write_parquet(output: Path, read: Read, shapes: Shapes, classes: Sequence[str]) -> None:
    arrow, parquet = _pyarrow()
    writer: Any = None
    with replacing(output) as temporary:
        try:
            for chunk in read(list(shapes)):
                table = _table(arrow, chunk, classes)
                writer = writer or parquet.ParquetWriter(temporary, table.schema)
                if table.num_rows:
                    writer.write_table(table)
        finally:
            if writer is not None:
                writer.close()


def _table(arrow: Any, chunk: Chunk, classes: Sequence[str]) -> Any:
    names = [os.fsdecode(name).encode("utf-8", "backslashreplace").decode() for name in chunk.names]
    columns: dict[str, Any] = {"name": arrow.array(names, arrow.string())}
    if classes:
        columns["label"] = arrow.array(chunk.labels)
        columns["class"] = arrow.array([classes[label] for label in chunk.labels.tolist()], arrow.string())
    for name, values in chunk.features.items():
        columns[name] = _lists(arrow, values)
    return arrow.table(columns)


def _lists(arrow: Any, values: Any) -> Any:
    """Return (n, ...) values as a column of nested lists of fixed lengths."""
    column = arrow.array(np.ascontiguousarray(values).reshape(-1))
    for length in reversed(values.shape[1:]):
        column = arrow.FixedSizeListArray.from_arrays(column, length)
    return column


def _count(read: Read) -> int:
    return sum(len(chunk.labels) for chunk in read(()))


def _pyarrow() -> tuple[Any, Any]:
    try:
        import pyarrow
        from pyarrow import parquet
    except ImportError as error:
        raise ValueError("a .parquet needs pyarrow: pip install 'conmim-lightning[parquet]'") from error
    return pyarrow, parquet
