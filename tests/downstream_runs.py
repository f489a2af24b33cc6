"""Small runs of every downstream task, shared by the tests of the commands."""

import csv
import json
from pathlib import Path

import pytest
import torch
from conftest import tiny_dense, tiny_labelled, tiny_overrides

from conmim_lightning.config.compose import configure as compose
from conmim_lightning.export import run as run_export
from conmim_lightning.train import run as train
from conmim_lightning.weights.checkpoint import read_checkpoint

EXPERIMENTS = {"segmentation": "quickstart_segmentation", "coco": "quickstart_detection"}
KINDS = list(EXPERIMENTS)
FEW = "task.probes.knn.num_neighbors=[1,5]"


def configure(name: str, folder: Path, *overrides: str):
    """The configuration of a command that writes to a folder, on one CPU."""
    own = [] if name == "export" else [f"paths.run_dir={folder}"]
    own += ["logger=none", "trainer=cpu"] if name == "train" else []
    if name in ("evaluate", "visualize"):
        own += ["trainer.accelerator=cpu", "trainer.devices=1", "trainer.precision=32-true"]
    return compose(name, *own, *overrides)


def export(cfg) -> Path:
    """Export and return the folder."""
    assert "timm.create_model" in run_export(cfg)
    return Path(cfg.output)


def metrics_of(folder: Path, prefix: str = "") -> dict[str, float]:
    """Final metrics of a run whose names begin with a prefix."""
    metrics = json.loads((folder / "metrics.json").read_text())
    return {name: value for name, value in metrics.items() if name.startswith(prefix)}


def table(path: Path) -> list[dict[str, str]]:
    """Rows of a tab-separated table."""
    with path.open() as file:
        return list(csv.DictReader(file, delimiter="\t"))


def state(folder: Path) -> dict[str, torch.Tensor]:
    """Weights of a run's last checkpoint."""
    return read_checkpoint(folder)["state_dict"]


def pretrain(folder: Path, scenes_root: Path) -> None:
    """A pre-training of two large steps."""
    small = [item for item in tiny_overrides(scenes_root) if "report" not in item]
    small += ["backbone.depth=4", "debug=two_steps", "optimizer.lr=0.1", "~callbacks.report", "~callbacks.probe"]
    train(configure("train", folder, "experiment=quickstart", *small))


@pytest.fixture(scope="session")
def labelled_runs(tmp_path_factory, scenes_root):
    """A pre-training, and runs of the labelled tasks from its teacher; their folder and their overrides."""
    folder = tmp_path_factory.mktemp("labelled_runs")
    pretrain(folder / "pretrained", scenes_root)
    labelled = [item for item in tiny_labelled(scenes_root) if "weights" not in item]
    labelled += [f"backbone.weights={folder}/pretrained", "trainer.log_every_n_steps=1"]
    short = ["schedule.epochs=3", "schedule.warmup_epochs=1", "data.subset_count=null", "data.batch_size=8"]
    runs = {
        "finetuned": ["experiment=quickstart_finetune", *labelled, *short],
        "linear": ["experiment=vit_b_linear", *labelled, "schedule.epochs=2"],
        "frozen": ["experiment=vit_b_frozen", *labelled, "task/probes=all", FEW],
    }
    for name, overrides in runs.items():
        train(configure("train", folder / name, *overrides))
    return folder, [*labelled, *short]


@pytest.fixture(scope="session")
def dense_pretrained(tmp_path_factory, scenes_root):
    """A pre-training."""
    folder = tmp_path_factory.mktemp("dense") / "pretrained"
    pretrain(folder, scenes_root)
    return folder


@pytest.fixture(scope="session")
def dense_runs(tmp_path_factory, scenes_root, dense_pretrained):
    """One run per kind."""
    folder = tmp_path_factory.mktemp("dense_runs")
    for kind, experiment in EXPERIMENTS.items():
        small = dense_changes(scenes_root, kind, dense_pretrained)
        train(configure("train", folder / kind, f"experiment={experiment}", *small))
    return folder


def dense_changes(scenes_root: Path, kind: str, pretrained: Path) -> list[str]:
    """Eight steps of a small model from a teacher, with drop path."""
    small = [item for item in tiny_dense(scenes_root, kind) if "weights" not in item]
    small += [f"backbone.weights={pretrained}", "trainer.log_every_n_steps=1", "data.batch_size=8"]
    small += ["backbone.drop_path_rate=0.3", "data.eval_limit=12"]
    if kind == "segmentation":
        return [*small, "schedule.steps=8", "schedule.warmup_steps=2", "trainer.val_check_interval=4"]
    return [*small, "schedule.epochs=2", "schedule.warmup_epochs=0.5", "data.subset_count=32"]
