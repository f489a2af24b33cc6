"""What a run left in its folder."""

import csv
import json
import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import yaml

_PICTURES = ("report.png", "confusion.png")
_FILES = (
    "checkpoints/last.ckpt", "metrics/metrics.csv", "metrics.json", "run.yaml", "per_class.tsv", "broken_images.tsv",
)  # fmt: skip
_MOST_PICTURES = 12
_MOST_BYTES = 1 << 28  # of a file that is read

Points = list[tuple[int, float]]


class RunFolder(NamedTuple):
    """A run as it is shown.

    Attributes:
        path: folder of the run.
        record: content of ``run.yaml``; empty if it is missing.
        curves: steps and values by metric.
        metrics: final metrics by name.
        pictures: paths of drawn pictures.
        table: rows of ``per_class.tsv``, the first with the names of the columns; empty if it is missing.
        files: paths of other files, relative to the folder.
    """

    path: Path
    record: dict[str, Any]
    curves: dict[str, Points]
    metrics: dict[str, float]
    pictures: list[Path]
    table: list[list[str]]
    files: list[str]

    @property
    def name(self) -> str:
        """Name of the run, or of its folder."""
        return str(self.record.get("name") or self.path.name)


def read_run(folder: str | Path) -> RunFolder:
    """Read the folder of a run; a file that is missing is left out.

    Raises:
        ValueError: the folder does not exist, holds no run, or a file in it cannot be read.
    """
    path = Path(folder).expanduser()
    if not path.is_dir():
        raise ValueError(f"{str(folder)!r} is not a folder; give the folder of a run")
    if not (path / "run.yaml").is_file() and not (path / "metrics.json").is_file():
        raise ValueError(f"{str(folder)!r} holds no run: neither run.yaml nor metrics.json is in it")
    drawn = sorted((path / "pictures").glob("*.png"))
    step = max(1, math.ceil(len(drawn) / _MOST_PICTURES))
    pictures = [path / name for name in _PICTURES if (path / name).is_file()]
    table = _text(path / "per_class.tsv").rstrip("\n").split("\n")
    return RunFolder(
        path,
        _mapping(path / "run.yaml", yaml.safe_load),
        _curves(path / "metrics" / "metrics.csv"),
        {key: float(value) for key, value in _mapping(path / "metrics.json", json.loads).items() if _is_number(value)},
        [*pictures, *drawn[::step]],
        [line.split("\t") for line in table if line],
        [name for name in _FILES if (path / name).exists()],
    )


def flat(config: Any, prefix: str = "") -> Iterator[tuple[str, str]]:
    """Yield dotted keys and values of a configuration as text."""
    if isinstance(config, dict):
        for key, value in config.items():
            yield from flat(value, f"{prefix}.{key}" if prefix else str(key))
    else:
        yield prefix, str(config)


def _text(path: Path) -> str:
    if not path.is_file():
        return ""
    if path.stat().st_size > _MOST_BYTES:
        raise ValueError(f"{str(path)!r} has more than {_MOST_BYTES:,} bytes")
    return path.read_text("utf-8", errors="replace")


def _mapping(path: Path, parse: Any) -> dict[str, Any]:
    try:
        content = parse(_text(path)) if path.is_file() else {}
    except (ValueError, yaml.YAMLError) as error:
        raise ValueError(f"{str(path)!r} cannot be read: {error}") from error
    if not isinstance(content, dict):
        raise ValueError(f"{str(path)!r} holds no names with values")
    return content


def _curves(path: Path) -> dict[str, Points]:
    curves: dict[str, Points] = {}
    for row in csv.DictReader(_text(path).splitlines()):
        step = row.pop("step", None)
        for name, cell in row.items():
            if step and step.isdigit() and cell:
                curves.setdefault(str(name), []).append((int(step), _number(cell, path)))
    return {name: curve for name, curve in curves.items() if name != "epoch"}


def _number(cell: str, path: Path) -> float:
    try:
        return float(cell)
    except ValueError as error:
        raise ValueError(f"{str(path)!r} holds {cell!r} where a number is needed") from error


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)
