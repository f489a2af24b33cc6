"""From pre-training to fine-tuning, probes, evaluation and export, through the entry points."""

import subprocess
import sys

import pytest
import torch
from downstream_runs import configure, metrics_of, state
from stopping import StopOnly, run_with

from conmim_lightning.train import run as train


@pytest.mark.parametrize("branch", ["teacher", "student"])
def test_fine_tuning_starts_from_the_given_weights(labelled_runs, tmp_path, branch):
    """With a learning rate of almost 0, the blocks stay those of the teacher, or the student."""
    folder, changes = labelled_runs
    frozen = [
        "optimizer.lr=1e-30",
        "schedule.min_lr=0",
        "optimizer.weight_decay=0",
        f"backbone.branch={branch}",
        "debug=two_steps",
    ]
    train(configure("train", tmp_path, "experiment=quickstart_finetune", *changes, *frozen))
    prefix = {"teacher": "model.teacher.branch.encoder.backbone.", "student": "model.student.encoder.backbone."}[branch]
    before, after = state(folder / "pretrained"), state(tmp_path)
    for name in ("cls_token", "blocks.3.mlp.fc2.weight"):
        torch.testing.assert_close(after[f"model.{name}"], before[prefix + name])
    shared = before[prefix + "rel_pos_bias.relative_position_bias_table"]
    for block in range(4):
        torch.testing.assert_close(after[f"model.blocks.{block}.attn.relative_position_bias_table"], shared)


@pytest.mark.parametrize(
    "extra", [[], ["callbacks=classification_ema", "callbacks.ema.decay=0.5"]], ids=["without average", "average"]
)
def test_a_resumed_run_equals_an_uninterrupted_one(labelled_runs, tmp_path, monkeypatch, extra):
    """With mixup, random erasing, RandAugment and drop path; the weights need not exist any more."""
    _, changes = labelled_runs
    harder = [
        *changes, *extra, "backbone.drop_path_rate=0.3", "data.train_transform.auto_augment=rand-m9-mstd0.5-inc1",
        "+task.mixup._target_=timm.data.Mixup", "+task.mixup.num_classes=6",
        "+task.random_erasing._target_=timm.data.random_erasing.RandomErasing", "+task.random_erasing.probability=0.5",
    ]  # fmt: skip
    harder = [
        item.replace("+task.mixup.", "++task.mixup.").replace("+task.random_erasing", "++task.random_erasing")
        for item in harder
    ]
    train(configure("train", tmp_path / "whole", "experiment=quickstart_finetune", *harder))
    run_with(
        configure("train", tmp_path / "first", "experiment=quickstart_finetune", *harder), monkeypatch, StopOnly(8)
    )
    assert not metrics_of(tmp_path / "first", "test/")  # stopped before its end
    moved = [item if "weights" not in item else "backbone.weights=/nowhere" for item in harder]
    resume = f"resume={tmp_path}/first/checkpoints/last.ckpt"
    trainer = train(configure("train", tmp_path / "second", "experiment=quickstart_finetune", *moved, resume))
    assert trainer.global_step == 18
    one, other = state(tmp_path / "whole"), state(tmp_path / "second")
    assert all(torch.equal(value, other[name]) for name, value in one.items())
    assert metrics_of(tmp_path / "second")["test/top1"] == metrics_of(tmp_path / "whole")["test/top1"]


def test_larger_images_after_fine_tuning(labelled_runs, tmp_path):
    """As vit_b_finetune_384: tables are resized, the head is kept."""
    folder, changes = labelled_runs
    own = [item for item in changes if "weights" not in item and "img_size" not in item]
    own += [
        "backbone.img_size=48",
        f"backbone.weights={folder}/finetuned",
        "optimizer.lr=1e-30",
        "schedule.min_lr=0",
        "debug=two_steps",
    ]
    train(configure("train", tmp_path, "experiment=quickstart_finetune", *own, "optimizer.weight_decay=0"))
    before, after = state(folder / "finetuned"), state(tmp_path)
    torch.testing.assert_close(after["model.head.weight"], before["model.head.weight"])
    assert after["model.blocks.0.attn.relative_position_bias_table"].shape == (11 * 11 + 3, 2)


def test_classes_may_be_weighted_or_sampled_equally(labelled_runs, tmp_path):
    _, changes = labelled_runs
    own = ["task.class_weights=balanced", "data.balanced=true", "debug=two_steps"]
    assert train(configure("train", tmp_path, "experiment=quickstart_finetune", *changes, *own)).global_step == 2


@pytest.mark.slow
@pytest.mark.ddp
@pytest.mark.parametrize("experiment", ["quickstart_finetune", "vit_b_linear"])
def test_two_devices_train_like_one(labelled_runs, tmp_path, experiment):
    """With the same images per step, they have the same weights within rounding, and the same metrics."""
    _, changes = labelled_runs
    changes = [item for item in changes if "batch_size" not in item] + ["seed=1"]
    changes += ["task.norm=none", "task.learning_rates=[0.1,0.01]"] if "linear" in experiment else []
    train(configure("train", tmp_path / "one", f"experiment={experiment}", *changes, "data.batch_size=8"))
    words = [f"experiment={experiment}", *changes, "data.batch_size=4", "logger=none", "trainer=ddp"]
    words += ["trainer.accelerator=cpu", "trainer.devices=2", f"hydra.run.dir={tmp_path}/two"]
    done = subprocess.run(
        [sys.executable, "-m", "conmim_lightning.train", *words],
        cwd=tmp_path, capture_output=True, text=True, check=False, timeout=300,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-3000:]
    one, two = state(tmp_path / "one"), state(tmp_path / "two")
    for name, value in one.items():
        torch.testing.assert_close(two[name], value, rtol=1e-3, atol=1e-4)
    for name, value in metrics_of(tmp_path / "one").items():
        if name.startswith(("val/", "test/")):
            assert metrics_of(tmp_path / "two")[name] == pytest.approx(value, abs=1e-3), name
