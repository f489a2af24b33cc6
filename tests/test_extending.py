"""Extensions in files outside the package, through the real commands; CONTRIBUTING.md explains each."""

import csv
import json
import os
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import numpy as np
import pytest
import torch
from conftest import tiny_labelled, tiny_overrides

from conmim_lightning.probes.feature_store import FeatureStore
from conmim_lightning.weights.checkpoint import read_checkpoint

EXTENSIONS = Path(__file__).parent / "extensions"
CPU = ("trainer=cpu", "logger=csv", "paths.run_dir=run")
ON_CPU = ("trainer.accelerator=cpu", "trainer.devices=1", "trainer.precision=32-true", "paths.run_dir=again")


@pytest.fixture
def outside(tmp_path, monkeypatch):
    """A copy of the extensions on the import path; the override that names their configuration folder."""
    shutil.copytree(EXTENSIONS, tmp_path / "mine", ignore=shutil.ignore_patterns("__pycache__"))
    monkeypatch.syspath_prepend(tmp_path / "mine")
    yield f"--config-dir={tmp_path}/mine/conf"
    for path in EXTENSIONS.glob("*.py"):
        sys.modules.pop(path.stem, None)


def metrics_of(folder: Path) -> dict[str, float]:
    return json.loads((folder / "metrics.json").read_text())


def test_a_pretext_loss(outside, tmp_path, scenes_root, run_command):
    """Pixel regression: a loss, and a target in place of the teacher."""
    small = [item for item in tiny_overrides(scenes_root) if "out_dim" not in item]
    length = ["schedule.epochs=8", "schedule.warmup_epochs=1"]
    length += ["trainer.log_every_n_steps=1", "task.log_every_n_steps=6"]
    done = run_command("train", outside, "experiment=pixels", *CPU, *small, *length)
    assert done.status == 0, done.stderr
    with (tmp_path / "run" / "metrics" / "metrics.csv").open() as file:
        losses = [float(row["train/loss"]) for row in csv.DictReader(file) if row["train/loss"]]
    assert len(losses) == 48
    assert np.mean(losses[-6:]) < 0.97 * np.mean(losses[:6]), "it learns"
    state = read_checkpoint(tmp_path / "run")["state_dict"]
    assert not [name for name in state if name.startswith("model.teacher")], "the target has no weights"
    assert (tmp_path / "run" / "report.png").is_file()
    untrusted = run_command("export", "checkpoint=run", "output=out")
    assert "task.loss._target_: 'pixel_regression.PixelRegression'" in untrusted.stderr
    trusted = ("export", "checkpoint=run", "output=out", "trust=[pixel_regression]")
    assert "choose branch=student" in run_command(*trusted).stderr
    exported = run_command(*trusted, "branch=student")
    assert exported.status == 0, exported.stderr


def test_a_pretext_loss_is_resumed_bit_for_bit(outside, tmp_path, scenes_root, run_command):
    small = [item for item in tiny_overrides(scenes_root) if "out_dim" not in item]
    length = ["schedule.epochs=2", "schedule.warmup_epochs=0", "~callbacks.report", "~callbacks.probe"]
    common = [outside, "experiment=pixels", "trainer=cpu", "logger=none", *small, *length]
    assert run_command("train", *common, "paths.run_dir=whole", "callbacks.checkpoint.save_top_k=-1").status == 0
    middle = tmp_path / "whole" / "checkpoints" / "step0000006.ckpt"
    resumed = run_command("train", *common, "paths.run_dir=second", f"resume={middle}")
    assert resumed.status == 0, resumed.stderr
    one, other = (read_checkpoint(tmp_path / name)["state_dict"] for name in ("whole", "second"))
    assert all(bool((value == other[name]).all()) for name, value in one.items())


@pytest.mark.slow
def test_a_pretext_loss_is_planned(outside, tmp_path, scenes_root, run_command):
    small = [item for item in tiny_overrides(scenes_root) if "out_dim" not in item]
    done = run_command("plan", outside, "experiment=pixels", *small, "paths.run_dir=plan", "trainer=cpu")
    assert done.status == 0, done.stderr
    assert "images/s" in done.stdout


def test_a_data_source(outside, tmp_path, scenes_root, run_command):
    """The images of a zip archive, trained on with the same result as their folder."""
    folder = scenes_root / "folders" / "train"
    with zipfile.ZipFile(tmp_path / "images.zip", "w") as archive:
        for path in sorted(folder.rglob("*.jpg")):
            archive.write(path, path.relative_to(folder))
        archive.writestr("notes.txt", "not an image")
    small = [item for item in tiny_overrides(scenes_root) if not item.startswith(("data.prepare", "data="))]
    length = ["debug=two_steps", "~callbacks.report", "~callbacks.probe"]
    common = ["experiment=quickstart", "trainer=cpu", "logger=none", *small, *length]
    for name, own in {
        "zip": [outside, "data=zip", f"data.root={tmp_path}/images.zip"],
        "folder": ["data=folder", f"data.root={folder}"],
    }.items():
        done = run_command("train", *own, *common, f"paths.run_dir={name}")
        assert done.status == 0, done.stderr
        assert ("48 images" in done.stderr) or ("48 images" in done.stdout)
    one, other = (read_checkpoint(tmp_path / name)["state_dict"] for name in ("zip", "folder"))
    assert all(bool((value == other[name]).all()) for name, value in one.items())
    with zipfile.ZipFile(tmp_path / "images.zip", "a") as archive:
        archive.writestr("broken.jpg", b"not an image")
    (tmp_path / "exclude.tsv").write_text("broken.jpg\n")
    broken = ["schedule.epochs=1", "schedule.warmup_epochs=0", "callbacks.broken_images.max_fraction=0.1"]
    zipped = [outside, "data=zip", f"data.root={tmp_path}/images.zip", *common[:3], *small, *length[1:], *broken]
    assert run_command("train", *zipped, "paths.run_dir=broken").status == 0
    assert (tmp_path / "broken" / "broken_images.tsv").read_text().startswith("broken.jpg\t")
    done = run_command("train", *zipped, f"data.exclude={tmp_path}/exclude.tsv", "paths.run_dir=excluded")
    assert "48 images" in done.stdout + done.stderr
    assert not (tmp_path / "excluded" / "broken_images.tsv").exists()
    (tmp_path / "cut.zip").write_bytes((tmp_path / "images.zip").read_bytes()[:-100])
    cases = {"/nowhere.zip": "does not exist", f"{tmp_path}/cut.zip": "is not a readable zip archive"}
    for root, fault in cases.items():
        failed = run_command("train", outside, "data=zip", f"data.root={root}", *common, "paths.run_dir=failed")
        assert failed.status == 1
        assert f"'{root}' {fault}" in failed.stderr


@pytest.fixture
def numbers_root(tmp_path, scenes_root):
    """Images in class folders that are named by numbers."""
    for split in ("train", "val"):
        for number, folder in enumerate(sorted((scenes_root / "folders" / split).iterdir())):
            shutil.copytree(folder, tmp_path / "numbers" / split / f"{10 * number + 20}")
    return tmp_path / "numbers"


def test_a_downstream_task(outside, tmp_path, scenes_root, numbers_root, run_command):
    """Regression of a number per image: trained, tested, and evaluated from its checkpoint."""
    small = [item for item in tiny_labelled(scenes_root) if not item.startswith(("data.prepare", "data=", "data.root"))]
    own = ["data=labelled_folder", f"data.root={numbers_root}", "optimizer.lr=0.01"]
    length = ["schedule.epochs=30", "schedule.warmup_epochs=1"]
    done = run_command("train", outside, "experiment=number_regression", *CPU, *small, *own, *length)
    assert done.status == 0, done.stderr
    metrics = metrics_of(tmp_path / "run")
    assert metrics["test/mean_absolute_error"] == metrics["val/mean_absolute_error"]
    assert metrics["test/mean_absolute_error"] < 30, "without learning the mean of 20 to 70 is missed by 45"
    again = run_command("evaluate", "checkpoint=run", "trust=[number_regression]", *ON_CPU)
    assert again.status == 0, again.stderr
    assert metrics_of(tmp_path / "again")["test/mean_absolute_error"] == pytest.approx(
        metrics["test/mean_absolute_error"], rel=1e-5
    )


def test_a_probe(outside, tmp_path, scenes_root, run_command):
    """The nearest class mean, beside the probes of the package."""
    own = ["task/probes=prototype", "task.probes.knn.num_neighbors=[5]"]
    done = run_command("train", outside, "experiment=vit_b_frozen", *CPU, *tiny_labelled(scenes_root), *own)
    assert done.status == 0, done.stderr
    metrics = metrics_of(tmp_path / "run")
    assert {"test/prototype_top1", "test/knn_k5_top1"} <= set(metrics)
    again = run_command("evaluate", "checkpoint=run", "trust=[prototype_probe]", *ON_CPU)
    assert again.status == 0, again.stderr
    assert metrics_of(tmp_path / "again")["test/prototype_top1"] == metrics["test/prototype_top1"]


def test_a_probe_by_hand(outside):
    from prototype_probe import PrototypeProbe

    store = FeatureStore(4, {"mean": 2})
    store.add({"mean": torch.tensor([[1.0, 0.0], [0.0, 2.0], [3.0, 3.0], [0.0, -1.0]])}, torch.tensor([0, 0, 0, 1]))
    probe = PrototypeProbe(num_classes=2, widths={"mean": 2})
    probe.fit(store, None, "cpu")
    torch.testing.assert_close(probe.means, torch.tensor([[0.5**0.5, 0.5**0.5], [0.0, -1.0]]), rtol=0, atol=1e-3)
    scores = probe({"mean": torch.tensor([[5.0, 4.0], [1.0, -9.0]])})[""]
    assert scores.argmax(1).tolist() == [0, 1]


def test_an_export_format(outside, tmp_path, labelled_runs, run_command):
    folder, _ = labelled_runs
    command = ("export", outside, "format=numpy", f"checkpoint={folder}/pretrained", f"output={tmp_path}/out")
    done = run_command(*command)
    assert done.status == 0, done.stderr
    assert f'numpy.load("{tmp_path}/out/weights.npz")' in done.stdout
    state = read_checkpoint(folder / "pretrained")["state_dict"]
    prefix = "model.teacher.branch.encoder.backbone."
    with np.load(tmp_path / "out" / "weights.npz") as arrays:
        assert {prefix + name for name in arrays.files} == {name for name in state if name.startswith(prefix)}
        for name in arrays.files:
            assert np.array_equal(arrays[name], state[prefix + name].numpy())
    assert json.loads((tmp_path / "out" / "model.json").read_text())["mean"] == [0.5, 0.5, 0.5]
    again = run_command(*command)
    assert again.status == 1
    assert "exists and is not an empty folder" in again.stderr


@pytest.mark.slow
def test_in_a_process_of_its_own(tmp_path, scenes_root):
    """As users do it: PYTHONPATH and --config-dir."""
    small = [item for item in tiny_overrides(scenes_root) if "out_dim" not in item]
    command = [
        sys.executable, "-m", "conmim_lightning.train", f"--config-dir={EXTENSIONS}/conf", "experiment=pixels", *CPU,
        *small, "debug=two_steps", "~callbacks.report", "~callbacks.probe",
    ]  # fmt: skip
    environment = os.environ | {"PYTHONPATH": str(EXTENSIONS)}
    done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "run" / "checkpoints" / "last.ckpt").exists()
