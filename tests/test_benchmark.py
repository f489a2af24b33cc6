import json
import re
import subprocess
import sys

import pytest
from hydra.utils import instantiate
from profiling_config import benchmark_config

from conmim_lightning.benchmark import run


@pytest.mark.slow
def test_the_command(tiny, tmp_path):
    """All stages; a second run is compared with the first, a third with another configuration."""
    command = [sys.executable, "-m", "conmim_lightning.benchmark", "experiment=quickstart", *tiny]
    command += ["benchmark.steps=2", "benchmark.warmup=1", "benchmark.precisions=[32-true]", "benchmark.memory=0.01"]
    runs = {
        "first": ["benchmark.stages=[step,attention,data,run,batch_sizes]"],
        "second": [f"benchmark.baseline={tmp_path}/first/benchmark.json"],
        "third": ["benchmark.baseline='task.model.project=masked data.batch_size=4'"],
    }
    printed = {}
    for name, changes in runs.items():
        own = [*changes, f"paths.run_dir={tmp_path}/{name}"]
        done = subprocess.run([*command, *own], cwd=tmp_path, capture_output=True, text=True, timeout=300, check=False)
        assert done.returncode == 0, done.stderr
        printed[name] = done.stdout
        assert (tmp_path / name / "benchmark.png").stat().st_size > 10_000
    result = json.loads((tmp_path / "first" / "benchmark.json").read_text())
    assert set(result["variants"]) == {"reference 32-true", "ours 32-true"}
    assert result["matmul_rates"]["32-true"] > 1e9
    assert len(result["variants"]["ours 32-true"]["step"]) == 2
    assert {"attention", "data", "run", "batch_sizes"} <= set(result)
    assert "waiting for data" in printed["first"]
    assert "by batch size" in printed["first"]
    assert "times the images per second" in printed["second"]
    assert "baseline task.model.project=masked data.batch_size=4" in printed["third"]
    baseline = json.loads((tmp_path / "third" / "benchmark.json").read_text())["baseline"]
    assert list(baseline["variants"]) == ["ours 32-true"], "the reference step needs no repetition"


def test_failed_variants_are_an_error_after_everything_is_written(tiny, tmp_path, monkeypatch, capsys):
    variant = {"step": [0.1], "perturbation": [0.1], "peak_bytes": 2**30, "loss": [1.0]}
    measured = {
        "device": "a", "torch": "2", "batch_size": 8, "flops_per_image": 1, "matmul_rates": {"32-true": 1.0},
        "variants": {"ours 32-true": variant}, "errors": {"compiled 32-true": "CUDA out of memory"},
    }  # fmt: skip
    config = benchmark_config(tiny, tmp_path)
    benchmark = instantiate(config["benchmark"])
    monkeypatch.setattr(benchmark, "run", lambda config, save: measured)
    with pytest.raises(ValueError, match="compiled 32-true could not be timed"):
        run(config, benchmark)
    assert "compiled 32-true failed: CUDA out of memory" in capsys.readouterr().out
    assert (tmp_path / "benchmark.json").is_file()
    assert (tmp_path / "benchmark.png").is_file()


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (["+task.temprature=1"], "temprature"),
        (["benchmark.precisions=[64-true]"], "64-true"),
        (["benchmark.variants=['reference 16-mixed']"], "on a GPU only"),
        (["benchmark.stages=[all]"], "step, attention, data, run, batch_sizes"),
        (["+benchmark.ways=[ours]"], "ways: .* no such argument; "),
        (
            ["experiment=quickstart_finetune", "backbone.weights=null"],
            "is for pre-training, got task ClassificationTask",
        ),
        (["benchmark.baseline='task.temprature=1'"], "temprature"),
        (["benchmark.baseline=nowhere.json"], "nowhere.json"),
    ],
)
def test_mistakes_end_with_a_sentence(run_command, overrides, message):
    status, _, stderr = run_command("benchmark", *overrides)
    assert status == 1
    assert re.search(message, stderr), stderr
    assert "Traceback" not in stderr
