import json
import subprocess
import sys

import pytest
import torch
from hydra import compose, initialize_config_dir

from conmim_lightning.benchmark import _measure_ways, time_steps
from conmim_lightning.config import CONF_DIR, check
from conmim_lightning.resolvers import register_resolvers
from conmim_lightning.speed.attentions import attentions, fused, ready, written_out
from conmim_lightning.speed.ours import PARTS
from conmim_lightning.speed.told import against, told
from conmim_lightning.speed.ways import departures, pairs
from conmim_lightning.timed import data_alone, end_to_end, made_runner


@pytest.fixture
def plain(tiny, tmp_path):
    register_resolvers()
    with initialize_config_dir(CONF_DIR, version_base="1.3"):
        own = ["experiment=quickstart", "trainer.accelerator=cpu", *tiny, f"paths.run_dir={tmp_path}"]
        return check(compose("benchmark", own))


@pytest.mark.parametrize("precision", ["32-true", "bf16-mixed"])
@pytest.mark.parametrize("way", ["plain", "ours"])
def test_the_step_is_timed_and_trains(plain, way, precision, tmp_path):
    runner = made_runner(plain, way, precision, 8)
    before = [parameter.clone() for parameter in runner.model.parameters()]
    found = runner.steps(3)
    assert len(found["step"]) == len(found["perturbation"]) == 3
    assert min(found["step"]) > 0
    assert found["loss"][2] < found["loss"][0], "one batch is soon known by heart"
    assert any(not torch.equal(a, b) for a, b in zip(before, runner.model.parameters(), strict=True))
    held = runner.held()
    assert held["weights"] > held["gradients"] > 0
    assert 2 * held["gradients"] <= held["optimizer"] < 2.01 * held["gradients"]
    assert 0 < runner.peak() < 2**32
    saved = runner.saved(str(tmp_path))
    assert 0 < saved["bytes"] - held["weights"] - held["optimizer"] < 2**18, "names and such"
    assert not list(tmp_path.iterdir())
    if way == "ours":
        assert list(runner.parts(2)) == list(PARTS)


def test_both_ways_train_the_same(plain):
    """The twin has our groups, rates and clipping, not only our figures for one step."""
    plain["task"]["optimizer"] = {"_target_": "torch.optim.SGD", "_partial_": True, "lr": 0.1, "weight_decay": 0.05}
    models, losses = [], []
    for way in ("plain", "ours"):
        runner = made_runner(plain, way, "32-true", 8)
        losses.append(runner.steps(3)["loss"])
        models.append(runner.model)
    assert losses[0] == pytest.approx(losses[1], rel=1e-5)
    for ours, theirs in zip(*(model.parameters() for model in models), strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("workers", [0, 2])
def test_data_alone_and_end_to_end(plain, workers):
    plain["data"]["num_workers"] = workers
    plain["benchmark"] |= {"steps": 3, "warmup": 1, "batch_size": 4, "precisions": ["32-true"]}
    alone, whole = data_alone(plain), end_to_end(plain)
    for found in (alone, whole):
        assert len(found["rates"]) == 3
        assert min(found["rates"]) > 0
        assert found["num_workers"] == workers
    assert all(0 <= share <= 1 for share in whole["waits"])
    assert whole["way"] == "ours"


@pytest.mark.parametrize("kind", ["cuda", "cpu"])
def test_on_a_gpu_other_ways_go_on_when_one_fails(plain, monkeypatch, kind):
    def in_turn(makers, *, warmup, steps):
        if any("ours" in name for name in makers):
            raise RuntimeError("CUDA out of memory\nmore of it")
        return {name: {"step": [1.0]} for name in makers}

    monkeypatch.setattr("conmim_lightning.speed.turns.in_turn", in_turn)
    plain["benchmark"] |= {"ways": ["plain", "ours", "compiled"], "precisions": ["bf16-mixed"]}
    found, kept = {"ways": {}}, []
    if kind == "cpu":  # all in turn, so that nothing can be told of any
        with pytest.raises(RuntimeError, match="out of memory"):
            _measure_ways(found, plain, None, torch.device(kind), lambda found: None)
        return
    _measure_ways(found, plain, plain, torch.device(kind), lambda found: kept.append(list(found["ways"])))
    assert list(found["ways"]) == ["plain bf16-mixed", "compiled bf16-mixed"]
    assert list(found["other"]["ways"]) == ["compiled bf16-mixed"]
    assert kept[0] == ["plain bf16-mixed"], "written before the next is begun"
    assert found["errors"] == dict.fromkeys(("ours bf16-mixed", "other ours bf16-mixed"), "CUDA out of memory")


@pytest.mark.slow
def test_the_command(tiny, tmp_path):
    """All stages; a second run is told as a ratio to the first, a third beside another configuration."""
    command = [sys.executable, "-m", "conmim_lightning.benchmark", "experiment=quickstart", *tiny]
    command += ["benchmark.steps=2", "benchmark.warmup=1", "benchmark.precisions=[32-true]", "benchmark.memory=0.01"]
    runs = {
        "first": ["benchmark.stages=[step,attention,data,run,sizes]"],
        "second": [f"benchmark.against={tmp_path}/first/benchmark.json"],
        "third": ["benchmark.against='task.model.projected=needed data.batch_size=4'"],
    }
    printed = {}
    for run, changes in runs.items():
        own = [*changes, f"paths.run_dir={tmp_path}/{run}"]
        done = subprocess.run([*command, *own], cwd=tmp_path, capture_output=True, text=True, timeout=300, check=False)
        assert done.returncode == 0, done.stderr
        printed[run] = done.stdout
        assert (tmp_path / run / "benchmark.png").stat().st_size > 10_000
    found = json.loads((tmp_path / "first" / "benchmark.json").read_text())
    assert set(found["ways"]) == {"plain 32-true", "ours 32-true"}
    assert found["ceilings"]["32-true"] > 1e9
    assert len(found["ways"]["ours 32-true"]["step"]) == 2
    assert {"attention", "data", "run", "sizes"} <= set(found)
    assert "waiting for data" in printed["first"]
    assert "by batch size" in printed["first"]
    assert "times the images a second" in printed["second"]
    assert "against task.model.projected=needed data.batch_size=4" in printed["third"]
    other = json.loads((tmp_path / "third" / "benchmark.json").read_text())["other"]
    assert list(other["ways"]) == ["ours 32-true"], "the official step needs no repetition"


def test_made_photographs_stand_in_for_a_folder_that_is_not_named(tmp_path):
    register_resolvers()
    with initialize_config_dir(CONF_DIR, version_base="1.3"):
        own = [f"paths.run_dir={tmp_path}", f"paths.data_dir={tmp_path}", "data.num_workers=0", "backbone=vit_tiny"]
        cfg = compose("benchmark", [*own, "benchmark.photos.prepare.count=16", "benchmark.photos.prepare.names=3"])
        plain = check(cfg)
    plain["benchmark"] |= {"steps": 2, "batch_size": 4, "warmup": 0}
    assert len(data_alone(plain)["rates"]) == 2
    photos = list((tmp_path / "photos").rglob("*.jpg"))
    assert (len(photos), len({photo.stat().st_ino for photo in photos})) == (48, 16)


def test_ways_that_failed_end_the_command_in_an_error_when_all_is_written(plain, tmp_path, monkeypatch, capsys):
    way = {"step": [0.1], "perturbation": [0.1], "peak_bytes": 2**30, "loss": [1.0]}

    def measured(plain, other, keep):
        return {
            "device": "a", "torch": "2", "batch_size": 8, "operations": 1, "ceilings": {"32-true": 1.0},
            "ways": {"ours 32-true": way}, "errors": {"compiled 32-true": "CUDA out of memory"},
        }  # fmt: skip

    monkeypatch.setattr("conmim_lightning.benchmark.measure", measured)
    with pytest.raises(ValueError, match="compiled 32-true could not be timed"):
        time_steps(plain)
    assert "compiled 32-true failed: CUDA out of memory" in capsys.readouterr().out
    assert (tmp_path / "benchmark.json").is_file()
    assert (tmp_path / "benchmark.png").is_file()


def test_what_the_official_step_does_not_do_is_known(plain):
    assert departures(plain["task"]) == []
    changed = plain["task"] | {"dictionary": "device", "model": plain["task"]["model"] | {"projected": "needed"}}
    assert departures(changed) == ["task.dictionary=device", "task.model.projected=needed"]


def test_float16_is_timed_as_training_asks_for_it(plain):
    """A fused step would hide the scaled gradients from clipping."""
    plain["task"]["optimizer"]["fused"] = True
    runner = made_runner(plain, "ours", "16-mixed", 2)
    assert not runner.optimizer.defaults["fused"]
    assert made_runner(plain, "ours", "bf16-mixed", 2).optimizer.defaults["fused"]


def test_a_way_may_name_its_precision():
    wanted = {"precisions": ["32-true", "bf16-mixed"], "ways": ["plain 16-mixed", "ours"]}
    assert pairs(wanted) == [("plain", "16-mixed"), ("ours", "32-true"), ("ours", "bf16-mixed")]
    for ways in (["fast"], ["plain 8-bit"]):
        with pytest.raises(ValueError, match="plain, ours, compiled and of 32-true"):
            pairs(wanted | {"ways": ways})


def test_ways_to_attend_give_the_same():
    inputs = [torch.randn(2, 3, 5, 4, dtype=torch.float64) for _ in range(3)]
    inputs.append(torch.randn(1, 3, 5, 5, dtype=torch.float64))
    bias = ready(inputs[3], torch.float64)
    assert bias.stride() == (120, 40, 8, 1)
    torch.testing.assert_close(fused(*inputs[:3], bias), written_out(*inputs))


def test_ways_to_attend_are_timed(monkeypatch):
    def missing(*inputs):
        raise RuntimeError("No available kernel.\nAborting execution.")

    shape = {"batch_size": 2, "heads": 2, "tokens": 5, "width": 4}
    found = attentions(torch.device("cpu"), torch.bfloat16, **shape)
    assert list(found) == ["written out", "scaled_dot_product_attention"]
    assert all(way["no_gradient"] > 0 and way["gradient"] > 0 for way in found.values())
    monkeypatch.setattr("conmim_lightning.speed.attentions.fused", missing)
    found = attentions(torch.device("cpu"), None, **shape)
    assert found["scaled_dot_product_attention"] == {"error": "RuntimeError: No available kernel."}
    lines = told({"device": "a", "torch": "2", "batch_size": 2, "operations": 1, "ceilings": {}, "ways": {},
                  "errors": {"ours": "no"},
                  "attention": {"bf16-mixed": {"one": {"no_gradient": 0.0015, "gradient": 0.004},
                                               "other": {"error": "no kernel"}}}}).splitlines()  # fmt: skip
    assert "ours failed: no" in lines
    assert lines[-3:-2] == ["attention of a block in bf16-mixed, ms:"]
    assert lines[-2].split() == ["one", "1.50", "without", "gradient", "4.00", "with", "gradients"]
    assert lines[-1].split() == ["other", "not", "here:", "no", "kernel"]


def test_what_is_told():
    way = {"step": [0.1, 0.2, 0.3], "perturbation": [0.05] * 3, "peak_bytes": 2**30, "loss": [3.0, 2.0, 1.0]}
    found = {
        "device": "a device", "torch": "2", "batch_size": 8, "operations": 10**9,
        "ceilings": {"bf16-mixed": 10**11, "16-mixed": 10**11},
        "ways": {"plain 16-mixed": way | {"step": [0.4] * 3}, "ours bf16-mixed": way},
        "data": {"rates": [90.0, 100.0, 110.0], "num_workers": 2, "precision": ""},
        "run": {
            "rates": [16.0] * 3, "waits": [0.25] * 3, "num_workers": 2, "precision": "bf16-mixed", "way": "ours"
        },
        "sizes": {"bf16-mixed": [{"batch_size": 8} | way, {"batch_size": 16, "step": None, "peak_bytes": None}]},
    }  # fmt: skip
    lines = told(found).splitlines()
    assert any(
        line.split() == ["ours", "bf16-mixed", "40.00", "32.00", "-", "53.33", "0.04", "40", "%", "32.00", "1.00"]
        for line in lines
    )
    assert "ours bf16-mixed is 2.00 times plain 16-mixed" in lines
    assert any("data alone" in line and "100.00" in line for line in lines)
    assert any("waiting for data 25 % of the time" in line for line in lines)
    assert "end to end at 50 % of the rate of ours bf16-mixed on made batches, perturbed" in lines
    assert lines[-1].split() == ["16", "out", "of", "memory"]
    twin = {"plain bf16-mixed": way | {"step": [0.4] * 3, "peak_bytes": 2**31, "loss": [3.0, 2.5, 1.25]}}
    lines = told(found | {"ways": found["ways"] | twin, "departures": ["task.dictionary=device"]}).splitlines()
    row = next(line.split() for line in lines if line.startswith("ours bf16-mixed "))
    assert row[2:] == ["40.00", "32.00", "-", "53.33", "2.00", "0.04", "40", "%", "32.00", "1.00", "0.50"]
    assert "loss of ours bf16-mixed 3.0000 to 1.0000, at most 2.0e-01 of it apart from plain bf16-mixed" in lines
    assert "plain is the published method all the same, without task.dictionary=device" in lines
    faster = found | {"ways": {"ours bf16-mixed": way | {"step": [0.1] * 3}}}
    assert "2.00 times the images a second, 1.00 times the memory" in against(faster, found)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("override", "told"),
    [
        ("+task.temprature=1", "temprature"),
        ("benchmark.precisions=[64-true]", "64-true"),
        ("benchmark.ways=['plain 16-mixed']", "on a GPU only"),
        ("benchmark.stages=[all]", "step, attention, data, run, sizes"),
        ("experiment=quickstart_finetune_from_scratch", "benchmark is for pre-training, got task ClassificationTask"),
        ("benchmark.against='task.temprature=1'", "temprature"),
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
