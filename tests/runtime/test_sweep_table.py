"""The table at the end of a sweep."""

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from conftest import tiny_labelled

from conmim_lightning.runtime.sweep_table import collect, format_table, write


@pytest.fixture
def sweep(tmp_path: Path) -> Path:
    """Two learning rates with three seeds each."""
    accuracies = {"1e-3": [0.70, 0.72, 0.74], "1e-2": [0.5, 0.5, 0.8]}
    for index, (lr, values) in enumerate(accuracies.items()):
        for seed, value in enumerate(values):
            run = tmp_path / str(3 * index + seed)
            (run / ".hydra").mkdir(parents=True)
            (run / ".hydra" / "overrides.yaml").write_text(f"- optimizer.lr={lr}\n- seed={seed}\n- logger=csv\n")
            metrics = {"test/top1": value, "test/calibration_error": 0.1, "train/loss": 2.0, "fit_seconds": 3.0}
            (run / "metrics.json").write_text(json.dumps(metrics))
    return tmp_path


def test_means_and_spreads_over_seeds(sweep):
    rows = collect(sweep)
    assert [row["setting"] for row in rows] == ["optimizer.lr=1e-3 logger=csv", "optimizer.lr=1e-2 logger=csv"]
    assert rows[0]["metrics"]["test/top1"] == [0.70, 0.72, 0.74]
    lines = format_table(rows).splitlines()
    assert lines[0].split() == ["setting", "runs", "test/top1"]
    assert lines[1].split() == ["optimizer.lr=1e-3", "3", "0.7200", "±", "0.0200"]
    assert lines[2].split() == ["optimizer.lr=1e-2", "3", "0.6000", "±", "0.1732"]


def test_files(sweep):
    rows = collect(sweep)
    write(rows, sweep)
    assert json.loads((sweep / "sweep.json").read_text()) == rows
    table = [line.split("\t") for line in (sweep / "sweep.tsv").read_text().splitlines()]
    assert table[0] == ["setting", "runs", "test/top1 mean", "test/top1 sd"]
    assert table[1] == ["optimizer.lr=1e-3 logger=csv", "3", "0.72", "0.02"]


def test_a_single_run_has_no_spread(sweep):
    for index in range(1, 6):
        shutil.rmtree(sweep / str(index))
    assert format_table(collect(sweep)).splitlines()[1].split() == ["all", "1", "0.7000"]


def test_a_folder_without_runs(tmp_path):
    assert collect(tmp_path) == []
    done = subprocess.run(
        [sys.executable, "-m", "conmim_lightning.runtime.sweep_table", str(tmp_path)],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 1
    assert "has results" in done.stderr


@pytest.mark.slow
def test_few_labels_over_seeds_by_the_command(scenes_root, tmp_path):
    """Each number of labels with three samples, and the table at the end."""
    words = ["experiment=vit_b_knn", "sweep=few_labels", *tiny_labelled(scenes_root), "trainer=cpu", "logger=none"]
    words += ["task.probes.knn.num_neighbors=[1]", "data.subset_count=1,2", f"hydra.sweep.dir={tmp_path}/s"]
    done = subprocess.run(
        [sys.executable, "-m", "conmim_lightning.train", "-m", *words],
        cwd=tmp_path, capture_output=True, text=True, check=False, timeout=300,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-3000:]
    lines = done.stdout.splitlines()
    head = next(index for index, line in enumerate(lines) if line.startswith("setting"))
    assert [line.split()[:2] for line in lines[head + 1 : head + 3]] == [
        ["data.subset_count=1", "3"],
        ["data.subset_count=2", "3"],
    ]
    assert (tmp_path / "s" / "sweep.tsv").is_file()
