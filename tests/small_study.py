"""A study of two rows and two columns, with results of three seeds."""

import json
from pathlib import Path

from conmim_lightning.studies.definition import Study


def small_study(**changes) -> Study:
    arguments = {
        "name": "small",
        "title": "Small",
        "encoders": {"method": []},
        "evaluations": {"probes": []},
        "rows": {"ours": {"encoder": "method"}, "random": {}},
        "columns": {
            "k-NN": {"run": "probes", "metric": "test/knn"},
            "at the end": {"run": "encoder", "metric": "val/knn"},
        },
        "baseline": "random",
    }
    return Study(**(arguments | changes))


def write_metrics(folder: Path, metrics: dict[str, float], *, complete: bool = True) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "metrics.json").write_text(json.dumps(metrics))
    if complete:
        (folder / "study.json").write_text("{}")


def write_small_results(folder: Path) -> None:
    for seed, (ours, random) in enumerate([(0.5, 0.2), (0.6, 0.4), (0.7, 0.3)]):
        write_metrics(folder / "ours" / "probes" / f"seed{seed}", {"test/knn": ours})
        write_metrics(folder / "random" / "probes" / f"seed{seed}", {"test/knn": random})
    write_metrics(folder / "method" / "seed0", {"val/knn": 0.25})
