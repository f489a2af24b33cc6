"""Results of a study: values of each cell, as Markdown and JSON."""

import json
import statistics
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from conmim_lightning.files import write_text
from conmim_lightning.runtime.results import METRICS
from conmim_lightning.studies.definition import RECORD, Study

_EMPTY = "-"


class Cell(NamedTuple):
    """Values of a metric in percent, by seed."""

    values: dict[int, float]

    @property
    def mean(self) -> float:
        """Mean over the seeds."""
        return statistics.fmean(self.values.values())

    @property
    def spread(self) -> float | None:
        """Standard deviation over the seeds; None for a single one."""
        return statistics.stdev(self.values.values()) if len(self.values) > 1 else None

    def __str__(self) -> str:
        """Return mean ± standard deviation, and the number of seeds in brackets."""
        if not self.values:
            return _EMPTY
        spread = "" if self.spread is None else f" ± {self.spread:.1f}"
        return f"{self.mean:.1f}{spread} ({len(self.values)})"


Table = dict[str, dict[str, Cell]]
"""Cells by row and column."""


def collect(study: Study, folder: Path) -> Table:
    """Read the results of all runs that have some.

    Raises:
        ValueError: a run has results, but not the metric of a column.
    """
    return {row: {column: Cell(_values(study, folder, row, column)) for column in study.columns} for row in study.rows}


def _values(study: Study, folder: Path, row: str, column: str) -> dict[int, float]:
    values: dict[int, float] = {}
    for seed in study.seeds:
        run, metric = study.run_of(row, column, seed), study.columns[column]["metric"]
        path = folder.joinpath(*run, METRICS) if run else None
        if path is None or not path.is_file():
            continue
        metrics = json.loads(path.read_text())
        if metric in metrics:
            values[seed] = 100 * metrics[metric]
        elif path.with_name(RECORD).is_file():  # complete, and not just stopped before its test
            raise ValueError(f"column {column!r}: {path} has no {metric!r}; it has {', '.join(sorted(metrics))}")
    return values


def format_table(study: Study, table: Table) -> str:
    """Format as Markdown: mean ± standard deviation in percent and, in brackets, the number of seeds."""
    columns = list(study.columns)
    lines = [["", *columns], ["---"] * (1 + len(columns))]
    lines += [[row, *(str(table[row][column]) for column in columns)] for row in study.rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def format_differences(study: Study, table: Table) -> str:
    """Format each row's mean minus the baseline's, with the standard error of that difference if both have seeds."""
    if study.baseline is None:
        return ""
    columns, base = list(study.columns), table[study.baseline]
    lines = [[f"minus {study.baseline}", *columns], ["---"] * (1 + len(columns))]
    for row in study.rows:
        if row != study.baseline:
            lines.append([row, *(_difference(table[row][column], base[column]) for column in columns)])
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def _difference(cell: Cell, base: Cell) -> str:
    """Return the mean difference over the seeds that both have, with its standard error."""
    both: Sequence[float] = [cell.values[seed] - base.values[seed] for seed in cell.values if seed in base.values]
    if not both:
        return _EMPTY
    error = f" ± {statistics.stdev(both) / len(both) ** 0.5:.1f}" if len(both) > 1 else ""
    return f"{statistics.fmean(both):+.1f}{error}"


def write_table(study: Study, table: Table, folder: Path) -> None:
    """Write ``table.md`` and ``table.json`` to the study's folder."""
    blocks = [f"# {study.title}", format_table(study, table), format_differences(study, table)]
    write_text(folder / "table.md", "\n\n".join(text for text in blocks if text) + "\n")
    values = {row: {column: cell.values for column, cell in cells.items()} for row, cells in table.items()}
    write_text(folder / "table.json", json.dumps({"title": study.title, "percent": values}, indent=1))
