"""Images listed in a file: the official lists, CSV or Parquet."""

import csv
import os
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from conmim_lightning.data.images.files import check_folder
from conmim_lightning.data.sources.array_file import PackedStrings
from conmim_lightning.data.sources.base import FileSource, number_classes

_TABLES = (".csv", ".tsv", ".parquet")

Labels = NDArray[np.int64] | list[object]


class ManifestSource(FileSource):
    """Images listed in a file, in its order.

    The file has one of these formats:
    - lines ``path label`` (official: train_map.txt and val_map.txt) or ``path``; the label follows the last space and
      is an integer; if fewer than half of the lines have one, there are no labels, and paths may contain spaces;
    - ``.csv`` or ``.tsv`` with a header;
    - ``.parquet`` (needs pyarrow).

    Args:
        root: folder that the paths are relative to.
        manifest: path of the file, relative to root or absolute.
        path_column: name of the column with the paths, for tables.
        label_column: name of the column with the classes (numbers or names), for tables; null for no labels.
        classes: names of the classes by index; null for the names in the file, sorted, or the numbers.

    Raises:
        ValueError: a file or column is missing, a line has no path, or a label is not one of the classes.
    """

    def __init__(
        self,
        root: str | os.PathLike[str],
        *,
        manifest: str,
        path_column: str = "path",
        label_column: str | None = None,
        classes: Sequence[str] | None = None,
    ) -> None:
        check_folder(root)
        path = Path(root, manifest)
        if not path.is_file():
            raise ValueError(f"manifest {str(path)!r} does not exist or is not a file")
        if path.suffix.lower() in _TABLES:
            names, labels = _table(path, path_column, label_column)
        else:
            names, labels = _lines(path)
        if not len(names):
            raise ValueError(f"manifest {str(path)!r} lists no image")
        numbers, known = _to_numbers(labels, classes, path) if labels is not None else (None, [])
        super().__init__(os.fspath(root), names, labels=numbers, classes=known)


def _lines(path: Path) -> tuple[PackedStrings, NDArray[np.int64] | None]:
    """Read the paths and, if lines end in an integer, the labels."""
    with path.open("rb") as file:
        labelled = [_has_label(line) for line in file if line.strip()]
    if 0 < sum(labelled) < len(labelled) < 2 * sum(labelled):
        raise ValueError(f"manifest {str(path)!r} has labels, but none in line {labelled.index(False) + 1}")
    with_labels = bool(labelled) and all(labelled)
    labels: list[int] = []

    def names() -> Iterator[bytes]:
        with path.open("rb") as file:
            for line in filter(bytes.strip, file):
                if with_labels:
                    line, label = line.rsplit(None, 1)
                    labels.append(int(label))
                yield line.strip()

    packed = PackedStrings.of(names())
    return packed, np.asarray(labels, np.int64) if with_labels else None


def _has_label(line: bytes) -> bool:
    pieces = line.rsplit(None, 1)
    return len(pieces) == 2 and pieces[1].isdigit() and len(pieces[1]) < 19


def _table(path: Path, path_column: str, label_column: str | None) -> tuple[PackedStrings, Labels | None]:
    wanted = [path_column, *([label_column] if label_column else [])]
    read = _parquet if path.suffix.lower() == ".parquet" else _csv
    labels: list[object] = []

    def names() -> Iterator[bytes]:
        for number, row in enumerate(read(path, wanted), start=1):
            if row[0] in (None, "") or row[-1] is None:
                raise ValueError(
                    f"manifest {str(path)!r} has no {'path' if row[0] in (None, '') else 'label'} in row {number}"
                )
            if label_column:
                labels.append(sys.intern(row[1]) if isinstance(row[1], str) else row[1])
            yield os.fsencode(str(row[0]))

    packed = PackedStrings.of(names())
    return packed, labels if label_column else None


def _csv(path: Path, wanted: list[str]) -> Iterator[tuple[object, ...]]:
    """Yield the rows of a CSV or TSV file, only the wanted columns."""
    delimiter = "\t" if path.suffix.lower() == ".tsv" else ","
    with path.open(encoding="utf-8-sig", errors="surrogateescape", newline="") as file:
        reader = csv.DictReader(file, delimiter=delimiter)
        try:
            _check_columns(path, wanted, reader.fieldnames or [])
            for row in reader:
                yield tuple(row[name] for name in wanted)
        except csv.Error as error:
            raise ValueError(f"manifest {str(path)!r}, line {reader.line_num}: {error}") from error


def _parquet(path: Path, wanted: list[str]) -> Iterator[tuple[object, ...]]:
    """Yield the rows of a Parquet file, only the wanted columns."""
    try:
        import pyarrow as arrow
        import pyarrow.parquet as parquet
    except ImportError as error:
        raise ValueError(f"manifest {str(path)!r} needs pyarrow: pip install 'conmim-lightning[parquet]'") from error
    try:
        with parquet.ParquetFile(path) as file:
            _check_columns(path, wanted, file.schema_arrow.names)
            for batch in file.iter_batches(columns=wanted):
                yield from zip(*(batch.column(name).to_pylist() for name in wanted), strict=True)
    except (arrow.ArrowException, OSError) as error:
        raise ValueError(f"manifest {str(path)!r} is not a readable Parquet file: {error}") from error


def _check_columns(path: Path, wanted: list[str], columns: Sequence[str]) -> None:
    if missing := [name for name in wanted if name not in columns]:
        raise ValueError(f"manifest {str(path)!r} has no column {missing}; it has {list(columns)}")


def _to_numbers(labels: Labels, classes: Sequence[str] | None, path: Path) -> tuple[NDArray[np.int32], list[str]]:
    """Return the labels as numbers, and the names of the classes."""
    if isinstance(labels, np.ndarray) or all(_is_integer(label) for label in labels):
        numbers = np.asarray(labels).astype(np.int64)
        names = number_classes(int(numbers.max()), str(path)) if classes is None else list(classes)
        if numbers.min() < 0 or numbers.max() >= len(names):
            wrong = int(numbers[(numbers < 0) | (numbers >= len(names))][0])
            raise ValueError(f"manifest {str(path)!r} has label {wrong}; allowed are 0 to {len(names) - 1}")
        return numbers.astype(np.int32), names
    texts = [str(label) for label in labels]
    names = sorted(set(texts)) if classes is None else list(classes)
    if unknown := sorted(set(texts) - set(names)):
        raise ValueError(f"manifest {str(path)!r} has labels {unknown[:5]} that are not among {names[:5]}, ...")
    number = {name: label for label, name in enumerate(names)}
    return np.asarray([number[text] for text in texts], np.int32), names


def _is_integer(label: object) -> bool:
    return isinstance(label, int) or (isinstance(label, str) and label.removeprefix("-").isdigit())
