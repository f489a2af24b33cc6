"""Folders of runs, written by hand."""

import json
from pathlib import Path

import yaml
from PIL import Image

CURVES = (
    "epoch,step,train/loss,val/knn_top1,val/knn_top1_error,val/knn_top1_start\n"
    "0,0,,0.2,0.05,0.2\n0,0,4.0,,,\n0,4,3.0,,,\n1,9,2.0,0.5,0.05,0.2\n"
)


def write_run(folder: Path, name: str = "quickstart 1", **settings: object) -> Path:
    """A run of ten steps with one picture."""
    (folder / "metrics").mkdir(parents=True)
    config = {
        "paths": {"run_dir": str(folder)},
        "seed": 0,
        "loss": {"temperature": 0.1},
        "callbacks": {"path": f"{folder}/x"},
    }
    record = {"id": "1a", "name": name, "job_type": "pretrain", "group": "g", "command": ["train", "a<b>&c"],
              "git": "abc", "packages": {"torch": "2.11"}, "earlier": [{"until_step": 4}],
              "config": config | settings}  # fmt: skip
    (folder / "run.yaml").write_text(yaml.safe_dump(record))
    (folder / "metrics" / "metrics.csv").write_text(CURVES)
    metrics = {
        "val/knn_top1": 0.5,
        "val/knn_top1_error": 0.05,
        "val/knn_top1_start": 0.2,
        "train/loss": 2.0,
        "fit_seconds": 90.0,
    }
    (folder / "metrics.json").write_text(json.dumps(metrics))
    (folder / "per_class.tsv").write_text("class\timages\n<cat>\t3\n")
    Image.new("RGB", (8, 8)).save(folder / "report.png")
    return folder
