"""Results of a run: reading, writing and printing."""

import json
import os
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

from conmim_lightning.config.signatures import allowed
from conmim_lightning.files import write_text

Result = dict[str, Any]
"""Results that a command measured and writes as JSON."""

Save = Callable[[Result], object]
"""Receives the results so far."""

METRICS = "metrics.json"
"""Name of the file with a run's final metrics, in its folder."""


def write_json(content: object, path: Path) -> Path:
    """Write a JSON file; return its path relative to the working directory."""
    write_text(path, json.dumps(content, indent=1))
    return Path(os.path.relpath(path))


def read_json(path: str, key: str) -> Result:
    """Read the results of an earlier command; raise ValueError for another file, which lacks ``key``."""
    try:
        content = json.loads(Path(path).read_text())
    except (OSError, ValueError) as error:
        raise ValueError(f"{path!r} cannot be read as JSON: {error}") from error
    if not isinstance(content, dict) or key not in content:
        raise ValueError(f"{path!r} does not hold results with {key!r}")
    return content


def format_metrics(metrics: Mapping[str, float]) -> str:
    """Format metrics, one per line."""
    return "".join(f"{name:<36} {value:.4f}\n" for name, value in metrics.items())


def print_existing(paths: Iterable[Path]) -> None:
    """Print the paths of the files that exist."""
    for path in paths:
        if path.exists():
            print(os.path.relpath(path))


def objective(name: str, folder: Path) -> float:
    """Return a run's final metric, for a sweeper that minimises or maximises it.

    Raises:
        ValueError: the run has no such metric.
    """
    metrics = json.loads((folder / METRICS).read_text())
    if name not in metrics:
        raise ValueError(f"objective={name}: unknown; {allowed(name, metrics)}")
    return float(metrics[name])
