"""Images that a list names: the official list files, CSV or Parquet."""

import csv
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from conmim_lightning.data.files import check_folder
from conmim_lightning.data.mapped import Names
from conmim_lightning.data.sources import FileSource

_TABLES = (".csv", ".tsv", ".parquet")


class ManifestSource(FileSource):
    """Images that a list names, in its order.

    A list is one of
    - lines ``path label`` (official: train_map.txt and val_map.txt) or ``path``; the label is what follows the last
      blank, a whole number; where one line has no such label, none has one and paths may hold blanks;
    - ``.csv`` or ``.tsv`` with a head line;
    - ``.parquet`` (needs pyarrow).

    Args:
        root: folder that the paths are relative to.
        manifest: the list; relative to root, or absolute.
        path_column: column of the paths, for tables.
        label_column: column of the classes, for tables, numbers or names; null for no labels.
        classes: names of the classes by number; null takes the names found, in their order, or the numbers.

    Raises:
        ValueError: a file or column is missing, a line has no path, or a label is none of the classes.
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
            raise ValueError(f"manifest {str(path)!r} does not exist or is no file")
        if path.suffix.lower() in _TABLES:
            names, labels = _table(path, path_column, label_column)
        else:
            names, labels = _lines(path)
        if not len(names):
            raise ValueError(f"manifest {str(path)!r} names no image")
        numbers, found = _numbered(labels, classes, path) if labels is not None else (None, [])
        super().__init__(os.fspath(root), names, labels=numbers, classes=found)


def _lines(path: Path) -> tuple[Names, list[Any] | None]:
    """Paths and, where every line ends in a whole number, labels."""
    with path.open("rb") as file:
        lines = [line.strip() for line in file if line.strip()]
    parts = [line.rsplit(None, 1) for line in lines]
    if all(len(part) == 2 and part[1].isdigit() for part in parts):
        return Names.of(part[0] for part in parts), [int(part[1]) for part in parts]
    return Names.of(lines), None


def _table(path: Path, path_column: str, label_column: str | None) -> tuple[Names, list[Any] | None]:
    wanted = [path_column, *([label_column] if label_column else [])]
    read = _parquet if path.suffix.lower() == ".parquet" else _csv
    columns = read(path, wanted)
    names = columns[0]
    if empty := [number for number, name in enumerate(names) if not name]:
        raise ValueError(
            f"manifest {str(path)!r} has {len(empty)} rows without a path, the first is row {empty[0] + 1}"
        )
    packed = Names.of(os.fsencode(str(name)) for name in names)
    return packed, columns[1] if label_column else None


def _csv(path: Path, wanted: list[str]) -> list[list[Any]]:
    """Columns of a CSV or TSV file."""
    delimiter = "\t" if path.suffix.lower() == ".tsv" else ","
    columns: list[list[Any]] = [[] for _ in wanted]
    with path.open(encoding="utf-8-sig", errors="surrogateescape", newline="") as file:
        reader = csv.DictReader(file, delimiter=delimiter)
        _check_columns(path, wanted, reader.fieldnames or [])
        for row in reader:
            for column, name in zip(columns, wanted, strict=True):
                column.append(row[name])
    return columns


def _parquet(path: Path, wanted: list[str]) -> list[list[Any]]:
    """Columns of a Parquet file."""
    try:
        import pyarrow as arrow
        import pyarrow.parquet as parquet
    except ImportError as error:
        raise ValueError(f"manifest {str(path)!r} needs pyarrow: pip install 'conmim-lightning[parquet]'") from error
    try:
        _check_columns(path, wanted, parquet.read_schema(path).names)
        table = parquet.read_table(path, columns=wanted)
    except (arrow.ArrowException, OSError) as error:
        raise ValueError(f"manifest {str(path)!r} is no readable Parquet file: {error}") from error
    return [table.column(name).to_pylist() for name in wanted]


def _check_columns(path: Path, wanted: list[str], found: Sequence[str]) -> None:
    if missing := [name for name in wanted if name not in found]:
        raise ValueError(f"manifest {str(path)!r} has no column {missing}; it has {list(found)}")


def _numbered(labels: list[Any], classes: Sequence[str] | None, path: Path) -> tuple[NDArray[np.int32], list[str]]:
    """Labels as numbers, and the names of the classes."""
    if all(_is_whole(label) for label in labels):
        numbers = np.asarray([int(label) for label in labels], np.int64)
        names = [str(number) for number in range(int(numbers.max()) + 1)] if classes is None else list(classes)
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


def _is_whole(label: Any) -> bool:
    return isinstance(label, int) or (isinstance(label, str) and label.removeprefix("-").isdigit())
