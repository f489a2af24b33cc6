"""The results of a sweep as a table: means and standard deviations over seeds.

Hydra calls this at the end of a sweep (``conf/hydra/default.yaml``). For the folder of an earlier sweep:
``python -m conmim_lightning.runtime.sweep_table runs/<date>/<time>-<process>-sweep``.
"""

import json
import statistics
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from hydra.experimental.callback import Callback
from omegaconf import DictConfig, OmegaConf

from conmim_lightning.files import write_text
from conmim_lightning.runtime.results import METRICS

Row = dict[str, Any]
"""A row of the table: overrides and metrics by name."""

_SEEDS = ("seed", "data.subset_seed")
_OVERRIDES = Path(".hydra", "overrides.yaml")
_SHOWN = ("test/", "val/")
_HIDDEN = ("_seconds", "_error", "unreadable_images", "_pixels", "_start")


class SweepTable(Callback):
    """Print the table and write ``sweep.tsv`` and ``sweep.json`` to the sweep's folder."""

    def on_multirun_end(self, config: DictConfig, **kwargs: object) -> None:
        """Collect the results of the runs."""
        folder = Path(config.hydra.sweep.dir)
        if rows := collect(folder):
            write(rows, folder)
            print(f"\n{format_table(rows)}\n\ntable       {folder / 'sweep.tsv'}")


def collect(folder: Path) -> list[Row]:
    """Return one row per setting: "setting" (without seeds), "seeds", and "metrics" by name as lists over the seeds.

    Args:
        folder: folder of a sweep, with one folder per run.
    """
    rows: dict[str, Row] = {}
    for path in sorted(folder.glob(f"*/{METRICS}"), key=lambda path: (len(path.parent.name), path.parent.name)):
        overrides = [str(override) for override in OmegaConf.load(path.parent / _OVERRIDES)]
        seeds = [override for override in overrides if override.lstrip("+").split("=")[0] in _SEEDS]
        setting = " ".join(override for override in overrides if override not in seeds)
        row = rows.setdefault(setting, {"setting": setting, "seeds": [], "metrics": {}})
        row["seeds"].append(" ".join(seeds))
        for name, value in json.loads(path.read_text()).items():
            row["metrics"].setdefault(name, []).append(value)
    return list(rows.values())


def write(rows: list[Row], folder: Path) -> None:
    """Write ``sweep.json`` (all metrics) and ``sweep.tsv`` (means and standard deviations of important metrics)."""
    write_text(folder / "sweep.json", json.dumps(rows, indent=1))
    names = _shown(rows)
    lines = ["\t".join(["setting", "runs", *(f"{name} {kind}" for name in names for kind in ("mean", "sd"))])]
    for row in rows:
        cells = [f"{number:.6g}" for name in names for number in _mean_and_sd(row["metrics"].get(name, []))]
        lines.append("\t".join([row["setting"], str(len(row["seeds"])), *cells]))
    write_text(folder / "sweep.tsv", "\n".join(lines) + "\n")


def format_table(rows: list[Row]) -> str:
    """Format the table for a terminal; a setting is named by its differences from the other settings."""
    settings = [row["setting"].split(" ") for row in rows]
    common = set.intersection(*map(set, settings))
    labels = [" ".join(word for word in setting if word not in common) or "all" for setting in settings]
    width = max(map(len, (*labels, "setting")))
    names = _shown(rows)
    lines = [f"{'setting':<{width}}  runs  " + "  ".join(f"{name:>20}" for name in names)]
    for label, row in zip(labels, rows, strict=True):
        cells = [_cell(row["metrics"].get(name, [])) for name in names]
        lines.append(f"{label:<{width}}  {len(row['seeds']):>4}  " + "  ".join(f"{cell:>20}" for cell in cells))
    return "\n".join(lines)


def _shown(rows: list[Row]) -> list[str]:
    names = dict.fromkeys(name for row in rows for name in row["metrics"])
    shown = [name for name in names if name.startswith(_SHOWN) and not name.endswith(_HIDDEN)]
    trained = [name for name in names if name.startswith("train/")]  # of pre-training without probes
    return [name for name in shown if name.startswith("test/")] or shown or trained


def _mean_and_sd(values: Sequence[float]) -> tuple[float, float]:
    mean = statistics.fmean(values) if values else float("nan")
    return mean, statistics.stdev(values) if len(values) > 1 else float("nan")


def _cell(values: Sequence[float]) -> str:
    mean, spread = _mean_and_sd(values)
    return f"{mean:.4f}" if spread != spread else f"{mean:.4f} ± {spread:.4f}"


def main() -> None:
    """Write and print the table of the sweep given on the command line."""
    if len(sys.argv) != 2 or not Path(sys.argv[1]).is_dir():
        raise SystemExit("error: give the folder of a sweep, such as runs/<date>/<time>-<process>-sweep")
    rows = collect(Path(sys.argv[1]))
    if not rows:
        raise SystemExit(f"error: no run in {sys.argv[1]!r} has results ({METRICS})")
    write(rows, Path(sys.argv[1]))
    print(format_table(rows))


if __name__ == "__main__":
    main()
