"""Segmentation and detection through the entry points."""

import subprocess
import sys

import pytest
import torch
from conftest import tiny_dense
from downstream_runs import EXPERIMENTS, KINDS, configure, dense_changes, export, metrics_of, state
from hydra.errors import HydraException
from stopping import StopOnly, run_with
from wandb_record import read_record

from conmim_lightning.train import run as train


@pytest.mark.parametrize("kind", KINDS)
def test_training_starts_from_the_teacher(dense_pretrained, scenes_root, tmp_path, kind):
    frozen = [
        "optimizer.lr=1e-30",
        "schedule.min_lr=0",
        "optimizer.weight_decay=0",
        "debug=two_steps",
        "data.batch_size=2",
    ]
    small = [*dense_changes(scenes_root, kind, dense_pretrained), *frozen]
    train(configure("train", tmp_path, f"experiment={EXPERIMENTS[kind]}", *small))
    before, after = state(dense_pretrained), state(tmp_path)
    prefix = "model.maps.backbone." if kind == "segmentation" else "model.net.backbone.maps.backbone."
    teacher = "model.teacher.branch.encoder.backbone."
    for name in ("patch_embed.proj.weight", "blocks.0.attn.qkv.weight", "blocks.3.mlp.fc2.weight"):
        torch.testing.assert_close(after[prefix + name], before[teacher + name])
    shared = before[f"{teacher}rel_pos_bias.relative_position_bias_table"]
    window = after[f"{prefix}blocks.0.attn.relative_position_bias_table"]
    if kind == "coco":  # a window of the pre-training grid: its table carries over unchanged
        torch.testing.assert_close(window, shared)
    else:
        assert len(window) == (2 * 8 - 1) ** 2 + 3


def test_a_backbone_continues_from_segmentation(dense_runs, scenes_root, tmp_path):
    """Its tables are resized again; the final norm is initialised."""
    small = [item for item in tiny_dense(scenes_root, "segmentation") if "weights" not in item]
    frozen = [
        "optimizer.lr=1e-30",
        "schedule.min_lr=0",
        "optimizer.weight_decay=0",
        "debug=two_steps",
        "backbone.allow_mismatch=[norm]",
    ]
    start = [f"backbone.weights={dense_runs}/segmentation", "experiment=quickstart_segmentation"]
    train(configure("train", tmp_path, *start, *small, *frozen))
    name = "model.maps.backbone.blocks.3.mlp.fc2.weight"
    torch.testing.assert_close(state(tmp_path)[name], state(dense_runs / "segmentation")[name])
    with pytest.raises(ValueError, match="timm has no segmenter of this architecture"):
        export(configure("export", tmp_path, f"checkpoint={dense_runs}/segmentation", f"output={tmp_path}/out"))


@pytest.mark.parametrize("kind", KINDS)
def test_a_resumed_run_equals_an_uninterrupted_one(
    dense_runs, dense_pretrained, scenes_root, tmp_path, monkeypatch, kind
):
    small = dense_changes(scenes_root, kind, dense_pretrained)
    experiment = f"experiment={EXPERIMENTS[kind]}"
    run_with(configure("train", tmp_path / "first", experiment, *small), monkeypatch, StopOnly(5))
    moved = [item if "weights" not in item else "backbone.weights=/nowhere" for item in small]
    resume = f"resume={tmp_path}/first/checkpoints/last.ckpt"
    trainer = train(configure("train", tmp_path / "second", experiment, *moved, resume))
    assert trainer.global_step == 8
    one, other = state(dense_runs / kind), state(tmp_path / "second")
    assert all(torch.equal(value, other[name]) for name, value in one.items())
    assert metrics_of(tmp_path / "second", "test/") == metrics_of(dense_runs / kind, "test/")


@pytest.mark.ddp
@pytest.mark.slow
@pytest.mark.parametrize("kind", KINDS)
def test_two_devices_train(scenes_root, dense_pretrained, tmp_path, kind):
    """Every parameter is used, both devices end with the same weights, and the images of both are logged."""
    small = dense_changes(scenes_root, kind, dense_pretrained)
    small = [item.replace("data.batch_size=8", "data.batch_size=4") for item in small]
    command = [
        sys.executable, "-m", "conmim_lightning.train", f"experiment={EXPERIMENTS[kind]}", *small, "logger=wandb",
        "logger.wandb.offline=true", "trainer=ddp", "trainer.accelerator=cpu", "trainer.devices=2",
        "trainer.precision=32-true",
        "trainer.sync_batchnorm=false" if kind == "segmentation" else "trainer.log_every_n_steps=2",
        f"paths.run_dir={tmp_path}",
    ]  # fmt: skip
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=300)
    assert done.returncode == 0, done.stderr
    assert "unused" not in done.stderr
    assert ("test/miou" if kind == "segmentation" else "test/box_ap") in metrics_of(tmp_path)
    record = read_record(tmp_path)
    assert {value["count"] for _, value in record.column("val/predictions")} == {4}
    assert record.column("test/predictions" if kind == "segmentation" else "test/detections")[0][1]["count"] == 8
    assert record.column("test/per_class")


BAD = {
    "no such blocks": (
        "segmentation",
        ["task.model.out_indices=[3,5,7,11]"],
        r"out_indices must be .* 0 to 3, got \[3, 5, 7, 11\]",
    ),
    "another size": (
        "segmentation",
        ["task.model.size=32"],
        r"images are of shape \(3, 64, 64\), the model takes \(3, 32",
    ),
    "classes": (
        "segmentation",
        ["data.num_classes=3", "data.source.class_names=[a,b,c]"],
        "values that are not classes",
    ),
    "one image": ("segmentation", ["data.batch_size=1"], "batch norm needs at least 2 images"),
    "head": ("segmentation", ["task.model.auxiliary_map=4"], "auxiliary_map must be null or from 0 to 3, got 4"),
    "schedule": ("coco", ["schedule.name=square"], "one of .*cosine.*, got 'square'"),
    "categories": ("coco", ["data.num_classes=5"], "has 6 classes, but data.num_classes is 5"),
    "window": ("coco", ["task.model.global_attn_blocks=[9]"], r"global_attn_blocks must be .* got \[9\]"),
    "no folder": ("coco", ["data.root=/nowhere", "data.prepare=null"], "'/nowhere' does not exist"),
}


@pytest.mark.parametrize("name", BAD)
def test_bad_input(scenes_root, tmp_path, name):
    kind, overrides, message = BAD[name]
    small = [*tiny_dense(scenes_root, kind), *overrides, "debug=two_steps"]
    with pytest.raises((ValueError, HydraException), match=message):
        train(configure("train", tmp_path, f"experiment={EXPERIMENTS[kind]}", *small))
