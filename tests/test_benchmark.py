import json
import subprocess
import sys

import pytest
import torch
from hydra import compose, initialize_config_dir

from conmim_lightning.benchmark import Runner
from conmim_lightning.config import CONF_DIR, check
from conmim_lightning.resolvers import register_resolvers
from conmim_lightning.speed.ours import PARTS


@pytest.fixture
def plain(tiny, tmp_path):
    register_resolvers()
    with initialize_config_dir(CONF_DIR, version_base="1.3"):
        return check(compose("benchmark", ["experiment=quickstart", *tiny, f"paths.run_dir={tmp_path}"]))


@pytest.mark.parametrize("precision", ["32-true", "bf16-mixed"])
@pytest.mark.parametrize("way", ["plain", "eager"])
def test_the_step_is_timed_and_trains(plain, way, precision):
    runner = Runner(plain, way, precision)
    before = [parameter.clone() for parameter in runner.step.model.parameters()] if way == "plain" else None
    found = runner.steps(3)
    assert len(found["step"]) == len(found["perturbation"]) == 3
    assert min(found["step"]) > 0
    assert 2**26 < runner.peak() < 2**36  # torch alone takes more than 64 MiB
    if before:
        assert any(not torch.equal(a, b) for a, b in zip(before, runner.step.model.parameters(), strict=True))
    else:
        assert list(runner.parts(2)) == list(PARTS)


def test_both_ways_train_the_same(plain):
    """The twin has our groups, rates and clipping, not only our figures for one step."""
    plain["task"]["optimizer"] = {"_target_": "torch.optim.SGD", "_partial_": True, "lr": 0.1, "weight_decay": 0.05}
    models = []
    for way in ("plain", "eager"):
        runner = Runner(plain, way, "32-true")
        runner.steps(3)
        models.append(runner.step.model if way == "plain" else runner.step.task.model)
    for ours, theirs in zip(*(model.parameters() for model in models), strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=1e-6)


@pytest.mark.slow
def test_the_command(tiny, tmp_path):
    """All ways in processes of their own; a second run is told as a ratio to the first."""
    command = [sys.executable, "-m", "conmim_lightning.benchmark", "experiment=quickstart", *tiny]
    command += ["benchmark.steps=2", "benchmark.warmup=1", "benchmark.precisions=[32-true]"]
    for run in ("first", "second"):
        own = [f"paths.run_dir={tmp_path}/{run}"]
        own += [f"benchmark.against={tmp_path}/first/benchmark.json"] if run == "second" else []
        done = subprocess.run([*command, *own], cwd=tmp_path, capture_output=True, text=True, timeout=300, check=False)
        assert done.returncode == 0, done.stderr
    assert "times the images a second" in done.stdout
    found = json.loads((tmp_path / "second" / "benchmark.json").read_text())
    assert set(found["ways"]) == {"plain 32-true", "eager 32-true"}
    assert found["ceilings"]["32-true"] > 1e9
    assert len(found["ways"]["eager 32-true"]["step"]) == 2


@pytest.mark.slow
@pytest.mark.parametrize(
    ("override", "told"),
    [
        ("+task.temprature=1", "temprature"),
        ("benchmark.precisions=[64-true]", "64-true"),
        ("benchmark.ways=[fast]", "fast"),
        ("benchmark.against=nowhere.json", "nowhere.json"),
    ],
)
def test_mistakes_end_with_a_sentence(tmp_path, override, told):
    done = subprocess.run(
        [sys.executable, "-m", "conmim_lightning.benchmark", override],
        cwd=tmp_path, capture_output=True, text=True, timeout=120, check=False,
    )  # fmt: skip
    assert done.returncode == 1
    assert told in done.stderr
    assert "Traceback" not in done.stderr
