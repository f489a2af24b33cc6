"""What the runs of a sweep found, as a table: means and spreads over seeds.

Hydra calls this when a sweep has ended (``conf/hydra/default.yaml``). By itself, for a sweep's folder:
``python -m conmim_lightning.sweep_table runs/<date>/<time>-sweep``.
"""

import json
import statistics
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from hydra.experimental.callback import Callback
from omegaconf import DictConfig, OmegaConf

_SEEDS = ("seed", "data.subset_seed")
_METRICS, _OVERRIDES = "metrics.json", Path(".hydra", "overrides.yaml")
_SHOWN = ("test/", "val/")
_PASSED_OVER = ("_seconds", "calibration_error", "unreadable_images", "_pixels", "_start")


class SweepTable(Callback):
    """Prints the table and writes ``sweep.tsv`` and ``sweep.json`` into the sweep's folder."""

    def on_multirun_end(self, config: DictConfig, **kwargs: Any) -> None:
        """Put the runs together."""
        folder = Path(config.hydra.sweep.dir)
        rows = gather(folder)
        if rows:
            write(rows, folder)
            print(f"\n{told(rows)}\n\ntable       {folder / 'sweep.tsv'}")


def gather(folder: Path) -> list[dict[str, Any]]:
    """One entry for each setting apart from seeds: "setting", "seeds", and "figures" by name as lists over the seeds.

    Args:
        folder: of a sweep, with a folder for each run.
    """
    found: dict[str, dict[str, Any]] = {}
    for path in sorted(folder.glob(f"*/{_METRICS}"), key=lambda path: (len(path.parent.name), path.parent.name)):
        words = [str(word) for word in OmegaConf.load(path.parent / _OVERRIDES)]
        seeds = [word for word in words if word.lstrip("+").split("=")[0] in _SEEDS]
        setting = " ".join(word for word in words if word not in seeds)
        entry = found.setdefault(setting, {"setting": setting, "seeds": [], "figures": {}})
        entry["seeds"].append(" ".join(seeds))
        for name, value in json.loads(path.read_text()).items():
            entry["figures"].setdefault(name, []).append(value)
    return list(found.values())


def write(rows: list[dict[str, Any]], folder: Path) -> None:
    """``sweep.json`` with all figures, ``sweep.tsv`` with means and standard deviations of those shown."""
    (folder / "sweep.json").write_text(json.dumps(rows, indent=1))
    names = _shown(rows)
    lines = ["\t".join(["setting", "runs", *(f"{name} {kind}" for name in names for kind in ("mean", "sd"))])]
    for row in rows:
        cells = [f"{number:.6g}" for name in names for number in _moments(row["figures"].get(name, []))]
        lines.append("\t".join([row["setting"], str(len(row["seeds"])), *cells]))
    (folder / "sweep.tsv").write_text("\n".join(lines) + "\n")


def told(rows: list[dict[str, Any]]) -> str:
    """The table for a terminal; settings are told by what differs between them."""
    words = [row["setting"].split(" ") for row in rows]
    common = set.intersection(*map(set, words))
    labels = [" ".join(word for word in part if word not in common) or "all" for part in words]
    width = max(map(len, (*labels, "setting")))
    names = _shown(rows)
    lines = [f"{'setting':<{width}}  runs  " + "  ".join(f"{name:>20}" for name in names)]
    for label, row in zip(labels, rows, strict=True):
        cells = [_cell(row["figures"].get(name, [])) for name in names]
        lines.append(f"{label:<{width}}  {len(row['seeds']):>4}  " + "  ".join(f"{cell:>20}" for cell in cells))
    return "\n".join(lines)


def _shown(rows: list[dict[str, Any]]) -> list[str]:
    names = dict.fromkeys(name for row in rows for name in row["figures"])
    tested = [name for name in names if name.startswith(_SHOWN) and not name.endswith(_PASSED_OVER)]
    return [name for name in tested if name.startswith("test/")] or tested


def _moments(values: Iterable[float]) -> tuple[float, float]:
    values = list(values)
    mean = statistics.fmean(values) if values else float("nan")
    return mean, statistics.stdev(values) if len(values) > 1 else float("nan")


def _cell(values: list[float]) -> str:
    mean, spread = _moments(values)
    return f"{mean:.4f}" if spread != spread else f"{mean:.4f} ± {spread:.4f}"


if __name__ == "__main__":
    if len(sys.argv) != 2 or not Path(sys.argv[1]).is_dir():
        raise SystemExit("error: give the folder of a sweep, such as runs/<date>/<time>-sweep")
    table = gather(Path(sys.argv[1]))
    if not table:
        raise SystemExit(f"error: no run in {sys.argv[1]!r} has left figures ({_METRICS})")
    write(table, Path(sys.argv[1]))
    print(told(table))
