"""A study through the real command: each run is a process."""

import json

import pytest
import yaml
from conftest import tiny_labelled, tiny_overrides
from hydra import compose, initialize_config_dir
from hydra.utils import instantiate

from conmim_lightning.config.check import CONF_DIR, check
from conmim_lightning.config.compose import configure
from conmim_lightning.config.resolvers import register_resolvers
from conmim_lightning.study import with_overrides

STUDIES = ("cifar10", "cifar10_quick", "ablations", "unlabelled_images", "camvid")


@pytest.fixture
def own_study(tmp_path, scenes_root):
    """A user's study: two steps of pre-training, k-NN of its teacher and of random weights."""
    length = ["experiment=quickstart", "trainer.max_steps=2", "~callbacks.report", "resume=auto"]
    content = {
        "_target_": "conmim_lightning.studies.definition.Study",
        "name": "mine",
        "title": "Mine",
        "common": ["logger=none", "report=false", "trainer=cpu"],
        "encoders": {"method": [*length, *tiny_overrides(scenes_root)[:-1]]},
        "evaluations": {
            "probes": [
                "experiment=cifar10_frozen",
                "task/probes=knn",
                "task.probes.knn.num_neighbors=[1]",
                "data.held_out_fraction=0",
                *tiny_labelled(scenes_root, depth=2)[:-1],
            ]
        },
        "rows": {"teacher": {"encoder": "method"}, "random": None},
        "columns": {"k-NN": {"run": "probes", "metric": "test/knn_k1_top1"}},
        "seeds": [0],
        "baseline": "random",
    }
    folder = tmp_path / "conf" / "study"
    folder.mkdir(parents=True)
    (folder / "mine.yaml").write_text(yaml.safe_dump(content))
    return f"--config-dir={tmp_path}/conf", "study=mine", 'output="out (1)"'


def test_a_study_runs_and_is_not_repeated(own_study, run_command, tmp_path):
    listed = run_command("study", *own_study, "dry_run=true")
    assert listed.status == 0, listed.stderr
    assert "3 runs, 0 complete" in listed.stdout
    assert not (tmp_path / "out (1)").exists()
    stopped = tmp_path / "out (1)" / "random" / "probes" / "seed0"  # what a process leaves that was stopped in a test
    stopped.mkdir(parents=True)
    (stopped / "run.yaml").write_text("{}")
    done = run_command("study", *own_study, "jobs=2")
    assert done.status == 0, done.stderr
    assert "| teacher |" in done.stdout
    assert "| minus random | k-NN |" in done.stdout
    out = tmp_path / "out (1)"
    assert json.loads((out / "table.json").read_text())["percent"]["random"]["k-NN"]["0"] > 0
    assert (out / "table.png").is_file()
    assert (out / "method" / "seed0" / "checkpoints" / "last.ckpt").is_file()
    again = run_command("study", *own_study)
    assert "3 runs, 3 complete" in again.stdout
    assert again.stdout.count("started") == 0
    assert (out / "table.md").read_text().splitlines()[2:6] == done.stdout.split("\n\n")[1].splitlines()[:4]


def test_mistakes_of_a_study_are_faults_of_the_configuration(run_command):
    done = run_command("study", "study.title=3", "+study.colums={}", "jbs=2")
    assert done.status == 1
    assert "jbs" in done.stderr
    unknown = run_command("study", "+study.colums={}")
    assert "study.colums" in unknown.stderr
    assert "did you mean columns" in unknown.stderr
    assert "jobs must be at least 1, got 0" in run_command("study", "jobs=0", "dry_run=true").stderr


def test_words_after_two_dashes_are_for_every_run():
    words = ["study=cifar10", "--", "data.root=/my images", 'data.mean=["a"]']
    own, overrides = with_overrides(words)
    assert own == "study=cifar10"
    assert configure("study", overrides).overrides == words[2:]
    assert with_overrides(words[:1]) == words[:1]
    assert configure("study", *with_overrides(["--"])).overrides == []


@pytest.mark.parametrize("name", STUDIES)
def test_every_run_of_every_study_composes_and_passes_the_check(name):
    """The words of each run; folders of weights and data do not matter here."""
    study = instantiate(check(configure("study", f"study={name}", "output=x", "paths.run_dir=x"), "study")["study"])
    register_resolvers()
    different = {run.words: run for run in study.runs() if run.words[-1] == f"seed={study.seeds[0]}"}
    with initialize_config_dir(CONF_DIR, version_base="1.3"):
        for run in different.values():
            weights = [] if run.is_encoder else ["backbone.weights=x"]
            check(compose("train", [*run.words, *weights, "data.root=x", "paths.run_dir=x"]))


def test_an_ablation_differs_from_the_recipe_in_one_group():
    study = instantiate(check(configure("study", "study=ablations", "output=x", "paths.run_dir=x"), "study")["study"])
    register_resolvers()
    configs = {}
    with initialize_config_dir(CONF_DIR, version_base="1.3"):
        for run in study.runs():
            if run.is_encoder and run.words[-1] == "seed=0":
                configs[run.kind] = check(compose("train", [*run.words, "data.root=x", "paths.run_dir=x"]))
    recipe = configs.pop("recipe")
    for name, config in configs.items():
        changed = [
            key for key in ("masking", "perturbation", "loss", "schedule", "optimizer") if config[key] != recipe[key]
        ]
        assert len(changed) == 1, name
    assert len(configs) == 13
