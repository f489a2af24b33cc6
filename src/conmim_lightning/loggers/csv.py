"""Metrics as CSV, continued by a resumed run."""

import csv
import os
from pathlib import Path
from typing import Any

from lightning.fabric.loggers.logger import rank_zero_experiment
from lightning.pytorch.loggers import CSVLogger
from lightning.pytorch.loggers.csv_logs import ExperimentWriter
from lightning.pytorch.utilities import rank_zero_only, rank_zero_warn

from conmim_lightning.files import naming, replacing

Rows = list[dict[str, Any]]


class RunCSVLogger(CSVLogger):
    """``CSVLogger`` that keeps the rows of an earlier process of the same run; Lightning's deletes them.

    Args:
        *args: see ``CSVLogger``.
        first_step: first step that this process logs, counted from 0. Earlier rows with this step or a later one are
            dropped, because they are logged again; rows of earlier steps stay.
        **kwargs: see ``CSVLogger``.

    Attributes:
        on_write_error: "stop" raises an error of writing, "continue" warns and keeps the rows for the next time.
    """

    def __init__(self, *args: Any, first_step: int = 0, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.first_step = first_step
        self.on_write_error = "stop"
        self._latest: tuple[int | None, dict[str, Any]] | None = None

    def log_metrics(self, metrics: dict[str, Any], step: int | None = None) -> None:
        """Add a row, unless it repeats the one before, which ``RunCheckpoint`` logs ahead of a checkpoint."""
        latest = (step, {name: float(value) for name, value in metrics.items()})
        if latest != self._latest:
            super().log_metrics(metrics, step)
        self._latest = latest

    @rank_zero_only
    def save(self) -> None:
        """Write the new rows; see ``on_write_error``."""
        try:
            super().save()
        except OSError as error:
            if self.on_write_error == "stop":
                raise
            rank_zero_warn(f"{error.filename!r} could not be written: {error.strerror}; the next save tries again")

    @property
    @rank_zero_experiment
    def experiment(self) -> ExperimentWriter:  # type: ignore[override]
        """Writer of the file; the earlier rows are read when it is first used."""
        if not isinstance(self._experiment, ExperimentWriter):
            self._experiment = _Writer(self.log_dir, self.first_step)
        assert isinstance(self._experiment, ExperimentWriter)
        return self._experiment


class _Writer(ExperimentWriter):
    """Writer that appends rows; a new column rewrites the file, completely or not at all."""

    def __init__(self, log_dir: str, first_step: int) -> None:
        super().__init__(log_dir=log_dir)
        path = Path(self.metrics_file_path)
        rows = [row for row in _read(path) if int(row["step"]) < first_step]
        self.metrics_keys = sorted({key for row in rows for key in row})
        if rows:
            self._rewrite(rows)
        else:
            path.unlink(missing_ok=True)

    def _check_log_dir_exists(self) -> None:
        """Accept a folder that holds files."""

    def save(self) -> None:
        """Write the new rows."""
        if not self.metrics:
            return
        path = Path(self.metrics_file_path)
        if self._record_new_keys() or not path.exists():
            self._rewrite([*_read(path), *self.metrics])
        else:
            size = path.stat().st_size
            try:
                with naming(path), path.open("a", newline="") as file:
                    csv.DictWriter(file, self.metrics_keys).writerows(self.metrics)
            except OSError:
                os.truncate(path, size)  # no half of a row
                raise
        self.metrics = []

    def _rewrite(self, rows: Rows) -> None:
        with replacing(self.metrics_file_path) as temporary, temporary.open("w", newline="") as file:
            writer = csv.DictWriter(file, self.metrics_keys)
            writer.writeheader()
            writer.writerows(rows)


def _read(path: Path) -> Rows:
    """Return the complete rows of a file, without empty cells; a killed process may leave an incomplete last line."""
    if not path.exists():
        return []
    text = path.read_text()
    lines = text[: text.rfind("\n") + 1].splitlines()
    rows = [{key: cell for key, cell in row.items() if key and cell} for row in csv.DictReader(lines)]
    return [row for row in rows if str(row.get("step", "")).isdigit()]
