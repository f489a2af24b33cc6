"""The report of one run, and the comparison of several."""

import math
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import yaml

from conmim_lightning.reporting.charts import charts
from conmim_lightning.reporting.gauges import gauge_of
from conmim_lightning.reporting.page import Section, Table, embed, write_page
from conmim_lightning.reporting.run_folder import RunFolder, flat, read_run

REPORT = "report.html"
"""Name of the report in the folder of a run."""

_HIDDEN = ("_error", "_seconds")
_IGNORED = ("paths.", "logger.")  # settings that have no effect on results
_FACTS = ("machine", "python", "git", "working_directory_git", "id")
_MOST_ROWS = 400


def write_run_report(folder: str | Path, output: Path | None = None) -> Path:
    """Write the report of a run and return its path.

    Args:
        folder: folder of the run.
        output: file to write; None for ``report.html`` in the folder.

    Raises:
        ValueError: the folder holds no run.
    """
    run = read_run(folder)
    output = output or run.path / REPORT
    config = run.record.get("config", {})
    sections = [
        Section("Results", tables=[_results(run)]),
        Section("Curves", charts=list(charts({run.name: run.curves}).values())),
        Section("Pictures", pictures=[embed(path, run.path) for path in run.pictures]),
        Section("Classes", tables=_classes(run)),
        Section("Gauges", tables=[_gauges(run)]),
        Section("Recipe", tables=[_recipe(run)], summary="whole configuration", text=_yaml(config)),
        Section("Environment", tables=[_environment(run)]),
        Section("Files", tables=[Table(["file", "bytes"], _files(run), [1])]),
    ]
    write_page(output, run.name, _lead(run), sections)
    return output


def write_comparison(folders: Sequence[str | Path], output: Path) -> Path:
    """Write a page that compares runs: final metrics, settings that differ, curves.

    Raises:
        ValueError: a folder holds no run, or two runs have one folder.
    """
    runs = [read_run(folder) for folder in folders]
    if len({run.path.resolve() for run in runs}) < len(runs):
        raise ValueError("a run is given twice")
    names = _distinct_names(runs)
    curves = charts({name: run.curves for name, run in zip(names, runs, strict=True)})
    sections = [
        Section("Results", tables=[_final(runs, names)]),
        Section("Settings that differ", tables=[_differences(runs, names)]),
        Section("Curves", charts=list(curves.values())),
    ]
    write_page(output, f"Comparison of {len(runs)} runs", [os.path.relpath(run.path) for run in runs], sections)
    return output


def number(value: float) -> str:
    """Format a number: 4 significant digits, or whole."""
    if math.isnan(value):
        return "not a number"
    return f"{value:,.0f}" if abs(value) >= 1000 and float(value).is_integer() else f"{value:.4g}"


def _lead(run: RunFolder) -> list[str]:
    command = " ".join(map(str, run.record.get("command", [])))
    steps = max((points[-1][0] + 1 for points in run.curves.values()), default=0)
    seconds = [f"{name.removesuffix('_seconds')} {value / 60:.1f} min" for name, value in run.metrics.items()
               if name.endswith("_seconds")]  # fmt: skip
    labels = [str(run.record[key]) for key in ("job_type", "group") if run.record.get(key)]
    facts = [*labels, f"{steps:,} steps", *seconds]
    return [line for line in (command, ", ".join(facts), str(run.path.resolve())) if line]


def _results(run: RunFolder) -> Table:
    shown = {name: value for name, value in run.metrics.items() if not name.endswith((*_HIDDEN, "_start", "_pixels"))}
    rows = []
    for name, value in sorted(shown.items(), key=lambda item: (not item[0].startswith(("test/", "val/")), item[0])):
        error = run.metrics.get(f"{name}_error")
        others = [run.metrics.get(name + suffix) for suffix in ("_start", "_pixels")]
        cells = [number(value), "" if error is None else f"± {number(2 * error)}"]
        rows.append([name, *cells, *("" if other is None else number(other) for other in others)])
    return Table(["metric", "final", "two standard errors", "initial weights", "raw pixels"], rows, [1, 2, 3, 4])


def _gauges(run: RunFolder) -> Table:
    rows = []
    for name in sorted({*run.curves, *run.metrics}):
        gauge = gauge_of(name)
        if gauge and not name.endswith(("_start", "_pixels", "_error")):
            value = run.metrics.get(name, run.curves.get(name, [(0, math.nan)])[-1][1])
            rows.append([name, number(value), gauge.meaning, gauge.healthy, gauge.otherwise])
    return Table(["metric", "final", "meaning", "in a run that learns", "otherwise"], rows, [1])


def _classes(run: RunFolder) -> list[Table]:
    return [Table(run.table[0], run.table[1 : 1 + _MOST_ROWS])] if run.table else []


def _recipe(run: RunFolder) -> Table:
    keys = ("seed", "backbone", "data.root", "data.batch_size", "masking", "loss", "optimizer", "schedule", "trainer")
    rows = [row for row in flat(run.record.get("config", {})) if row[0].startswith(keys) and row[1] != "None"]
    return Table(["setting", "value"], [row for row in rows if not row[0].endswith("_partial_")])


def _environment(run: RunFolder) -> Table:
    record = run.record
    rows = [[key, str(record[key])] for key in _FACTS if record.get(key)]
    rows += [[name, str(version)] for name, version in record.get("packages", {}).items()]
    rows += [["continued", str(entry.get("until_step", ""))] for entry in record.get("earlier", [])]
    return Table(["", ""], rows)


def _files(run: RunFolder) -> list[list[str]]:
    return [[name, f"{(run.path / name).stat().st_size:,}"] for name in run.files]


def _yaml(config: Any) -> str:
    return yaml.safe_dump(config, sort_keys=False) if config else ""


def _distinct_names(runs: Sequence[RunFolder]) -> list[str]:
    names = [run.name for run in runs]
    return names if len(set(names)) == len(names) else [os.path.relpath(run.path) for run in runs]


def _final(runs: Sequence[RunFolder], names: Sequence[str]) -> Table:
    metrics = dict.fromkeys(name for run in runs for name in run.metrics if "_error" not in name)
    rows = [
        [metric, *(number(run.metrics[metric]) if metric in run.metrics else "" for run in runs)]
        for metric in sorted(metrics, key=lambda name: (not name.startswith(("test/", "val/")), name))
    ]
    return Table(["metric", *names], rows, range(1, len(names) + 1))


def _differences(runs: Sequence[RunFolder], names: Sequence[str]) -> Table:
    settings = [dict(flat(run.record.get("config", {}))) for run in runs]
    paths = [str(run.record.get("config", {}).get("paths", {}).get("run_dir", "")) for run in runs]
    settings = [
        {key: value for key, value in own.items() if not key.startswith("task.") or own.get(key[5:]) != value}
        for own in settings
    ]  # without what the task takes over from a group
    keys = [key for key in dict.fromkeys(key for own in settings for key in own) if not key.startswith(_IGNORED)]
    rows = []
    for key in keys:
        values = [own.get(key, "") for own in settings]
        relative = [value.replace(path, ".") if path else value for value, path in zip(values, paths, strict=True)]
        if len(set(relative)) > 1:
            rows.append([key, *relative])
    return Table(["setting", *names], rows or [["none", *[""] * len(names)]])
