"""Segmentation and detection by the doors that users take."""

import contextlib
import io
import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from conftest import tiny_dense, tiny_overrides
from hydra import compose, initialize_config_dir
from PIL import Image
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval
from stopping import StopOnly, run_with

from conmim_lightning.config import CONF_DIR
from conmim_lightning.evaluate import run as evaluate
from conmim_lightning.export import run as export
from conmim_lightning.inspect import run as inspect
from conmim_lightning.resolvers import register_resolvers
from conmim_lightning.train import run as train
from conmim_lightning.visualize import run as visualize
from conmim_lightning.weights.checkpoint import read_checkpoint

EXPERIMENTS = {"segmentation": "quickstart_segmentation", "coco": "quickstart_detection"}
KINDS = list(EXPERIMENTS)


def composed(name: str, folder: Path, *overrides: str):
    register_resolvers()
    own = [] if name == "export" else [f"paths.run_dir={folder}"]
    own += ["logger=none", "trainer=cpu"] if name == "train" else []
    if name in ("evaluate", "visualize"):
        own += ["trainer.accelerator=cpu", "trainer.devices=1", "trainer.precision=32-true"]
    with initialize_config_dir(CONF_DIR, version_base="1.3"):
        return compose(name, [*own, *overrides])


def figures(folder: Path) -> dict[str, float]:
    found = json.loads((folder / "metrics.json").read_text())
    return {name: value for name, value in found.items() if name.startswith("test/")}


def state(folder: Path) -> dict[str, torch.Tensor]:
    return read_checkpoint(folder)["state_dict"]


def changes(scenes_root: Path, kind: str, pretrained: Path) -> list[str]:
    """Eight steps of a small model from a teacher, with drop path."""
    small = [item for item in tiny_dense(scenes_root, kind) if "weights" not in item]
    small += [f"backbone.weights={pretrained}", "trainer.log_every_n_steps=1", "data.batch_size=8"]
    small += ["backbone.drop_path_rate=0.3", "data.evaluation_count=12"]
    if kind == "segmentation":
        return [*small, "schedule.steps=8", "schedule.warmup_steps=2", "trainer.val_check_interval=4"]
    return [*small, "schedule.epochs=2", "schedule.warmup_epochs=0.5", "data.subset_count=32"]


@pytest.fixture(scope="module")
def pretrained(tmp_path_factory, scenes_root):
    folder = tmp_path_factory.mktemp("dense") / "pretrained"
    small = [item for item in tiny_overrides(scenes_root) if "report" not in item]
    small += ["backbone.depth=4", "debug=two_steps", "optimizer.lr=0.1", "~callbacks.report", "~callbacks.probe"]
    train(composed("train", folder, "experiment=quickstart", *small))
    return folder


@pytest.fixture(scope="module")
def runs(tmp_path_factory, scenes_root, pretrained):
    """A run of each kind."""
    folder = tmp_path_factory.mktemp("dense_runs")
    for kind, experiment in EXPERIMENTS.items():
        made = changes(scenes_root, kind, pretrained)
        train(composed("train", folder / kind, f"experiment={experiment}", *made))
    return folder


@pytest.mark.parametrize("kind", KINDS)
def test_it_starts_from_the_teacher(pretrained, scenes_root, tmp_path, kind):
    still = ["optimizer.lr=1e-30", "optimizer.weight_decay=0", "debug=two_steps", "data.batch_size=2"]
    made = [*changes(scenes_root, kind, pretrained), *still]
    train(composed("train", tmp_path, f"experiment={EXPERIMENTS[kind]}", *made))
    before, after = state(pretrained), state(tmp_path)
    ours = "model.maps.backbone." if kind == "segmentation" else "model.net.backbone.maps.backbone."
    teacher = "model.teacher.branch.encoder.backbone."
    for name in ("patch_embed.proj.weight", "blocks.0.attn.qkv.weight", "blocks.3.mlp.fc2.weight"):
        torch.testing.assert_close(after[ours + name], before[teacher + name])
    shared = before[f"{teacher}rel_pos_bias.relative_position_bias_table"]
    window = after[f"{ours}blocks.0.attn.relative_position_bias_table"]
    if kind == "coco":  # a window of the pre-training grid: its table carries over unchanged
        torch.testing.assert_close(window, shared)
    else:
        assert len(window) == (2 * 8 - 1) ** 2 + 3


@pytest.mark.parametrize("kind", KINDS)
def test_evaluation_gives_the_figures_of_the_run(runs, tmp_path, kind):
    found = evaluate(composed("evaluate", tmp_path, f"checkpoint={runs}/{kind}"))
    assert found == pytest.approx(figures(runs / kind), rel=1e-5, abs=1e-6)
    assert (tmp_path / "per_class.tsv").read_text() == (runs / kind / "per_class.tsv").read_text()
    pictures = sorted((tmp_path / "pictures").iterdir())
    assert pictures
    assert [path.read_bytes() for path in pictures] == [
        path.read_bytes() for path in sorted((runs / kind / "pictures").iterdir())
    ]


def test_class_maps_are_written_in_the_collections_own_values(runs, scenes_root, tmp_path):
    """They score as the evaluation says, read back by nothing but Pillow and numpy."""
    out = tmp_path / "maps"
    whole = "data.evaluation_count=24"
    found = evaluate(
        composed("evaluate", tmp_path, f"checkpoint={runs}/segmentation", f"predictions={out}", f"+{whole}")
    )
    right = total = 0
    for path in sorted((scenes_root / "ade20k" / "annotations" / "validation").iterdir()):
        answer, truth = np.asarray(Image.open(out / path.name)), np.asarray(Image.open(path))
        right, total = right + (answer == truth).sum(), total + truth.size
    assert len(list(out.iterdir())) == 24
    assert found["test/pixel_accuracy"] == pytest.approx(right / total, abs=1e-6)


def test_results_are_those_that_pycocotools_reads(runs, scenes_root, tmp_path):
    out = tmp_path / "results.json"
    found = evaluate(
        composed("evaluate", tmp_path, f"checkpoint={runs}/coco", f"predictions={out}", "+data.evaluation_count=24")
    )
    with contextlib.redirect_stdout(io.StringIO()):
        truth = COCO(scenes_root / "coco" / "annotations" / "instances_val.json")
        entries = json.loads(out.read_text())
        for kind, ours in (("bbox", "box"), ("segm", "mask")):
            left_out = "segmentation" if kind == "bbox" else "bbox"
            given = truth.loadRes([{key: entry[key] for key in entry if key != left_out} for entry in entries])
            evaluation = COCOeval(truth, given, kind)
            evaluation.evaluate()
            evaluation.accumulate()
            evaluation.summarize()
            assert found[f"test/{ours}_ap"] == pytest.approx(evaluation.stats[0], abs=1e-6)
            assert found[f"test/{ours}_ap50"] == pytest.approx(evaluation.stats[1], abs=1e-6)
            assert found[f"test/{ours}_recall"] == pytest.approx(evaluation.stats[8], abs=1e-6)


def test_evaluation_may_differ_from_the_run(runs, tmp_path):
    """Several sizes and mirror images only in the test; a threshold of a detector."""
    changed = ["+inference.scales=[0.75,1.0]", "+inference.flip=true", "+inference.stride=null"]
    found = evaluate(composed("evaluate", tmp_path / "s", f"checkpoint={runs}/segmentation", *changed))
    assert found["test/miou"] != figures(runs / "segmentation")["test/miou"]
    sure = "+inference.score_threshold=0.99"
    found = evaluate(composed("evaluate", tmp_path / "d", f"checkpoint={runs}/coco", sure))
    assert found["test/box_recall"] == 0
    with pytest.raises(ValueError, match=r"inference\.flop is unknown to a run of SegmentationTask"):
        evaluate(composed("evaluate", tmp_path, f"checkpoint={runs}/segmentation", "+inference.flop=1"))


@pytest.mark.parametrize("kind", KINDS)
def test_images_without_annotations(runs, scenes_root, tmp_path, kind):
    folder = tmp_path / "images"
    folder.mkdir()
    rng = np.random.default_rng(0)
    for number, size in enumerate([(40, 70), (64, 64), (101, 33)]):
        Image.fromarray(rng.integers(0, 255, (*size, 3), np.uint8)).save(folder / f"{number}.png")
    (folder / "3.png").write_bytes(b"nothing")
    out = tmp_path / "answers"
    visualize(
        composed("visualize", tmp_path / "v", f"checkpoint={runs}/{kind}", f"images={folder}", f"predictions={out}")
    )
    assert len(list((tmp_path / "v" / "pictures").iterdir())) == 3
    if kind == "segmentation":
        assert [np.asarray(Image.open(out / f"{n}.png")).shape for n in range(3)] == [(40, 70), (64, 64), (101, 33)]
    else:
        entries = json.loads(out.read_text())
        names = {entry["category"] for entry in entries}
        assert names <= {"disc", "square", "triangle", "star", "cross", "ring"}
        assert {entry["image_id"] for entry in entries} <= {"0.png", "1.png", "2.png"}


@pytest.mark.parametrize("kind", KINDS)
def test_pictures_of_the_runs_own_images(runs, tmp_path, kind):
    folder = visualize(composed("visualize", tmp_path, f"checkpoint={runs}/{kind}", "pictures=3"))
    assert [path.name[:6] for path in sorted(folder.iterdir())] == ["000000", "000008", "000016"]


def test_a_backbone_goes_on_from_segmentation(runs, scenes_root, tmp_path):
    """Its tables are resized back; the final norm begins anew."""
    made = [item for item in tiny_dense(scenes_root, "segmentation") if "weights" not in item]
    still = ["optimizer.lr=1e-30", "optimizer.weight_decay=0", "debug=two_steps", "backbone.allow=[norm]"]
    given = [f"backbone.weights={runs}/segmentation", "experiment=quickstart_segmentation"]
    train(composed("train", tmp_path, *given, *made, *still))
    name = "model.maps.backbone.blocks.3.mlp.fc2.weight"
    torch.testing.assert_close(state(tmp_path)[name], state(runs / "segmentation")[name])
    with pytest.raises(ValueError, match="is of SegmentationTask, whose backbone was made for maps"):
        export(composed("export", tmp_path, f"checkpoint={runs}/segmentation", f"output={tmp_path}/out"))


def test_a_run_that_draws_nothing(pretrained, tmp_path):
    with pytest.raises(ValueError, match="is of PretrainTask; drawn are answers of segmentation and detection"):
        visualize(composed("visualize", tmp_path, f"checkpoint={pretrained}"))


@pytest.mark.parametrize("kind", KINDS)
def test_resumed_equals_straight_through(runs, pretrained, scenes_root, tmp_path, monkeypatch, kind):
    made = changes(scenes_root, kind, pretrained)
    experiment = f"experiment={EXPERIMENTS[kind]}"
    run_with(composed("train", tmp_path / "first", experiment, *made), monkeypatch, StopOnly(5))
    gone = [item if "weights" not in item else "backbone.weights=/nowhere" for item in made]
    resume = f"resume={tmp_path}/first/checkpoints/last.ckpt"
    trainer = train(composed("train", tmp_path / "second", experiment, *gone, resume))
    assert trainer.global_step == 8
    one, other = state(runs / kind), state(tmp_path / "second")
    assert all(torch.equal(value, other[name]) for name, value in one.items())
    assert figures(tmp_path / "second") == figures(runs / kind)


@pytest.mark.ddp
@pytest.mark.slow
@pytest.mark.parametrize("kind", KINDS)
def test_two_devices_count_every_image_once(runs, tmp_path, kind):
    """23 images: the two devices have 12 and 11."""
    single = evaluate(composed("evaluate", tmp_path / "one", f"checkpoint={runs}/{kind}", "+data.evaluation_count=23"))
    command = [
        sys.executable, "-m", "conmim_lightning.evaluate", f"checkpoint={runs}/{kind}", "+data.evaluation_count=23",
        "trainer.accelerator=cpu", "trainer.devices=2", "trainer.strategy=ddp", "trainer.precision=32-true",
        f"paths.run_dir={tmp_path}/two", f"predictions={tmp_path}/answers",
    ]  # fmt: skip
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=300)
    assert done.returncode == 0, done.stderr
    assert figures(tmp_path / "two") == pytest.approx(single, rel=1e-5, abs=1e-6)
    if kind == "coco":
        entries = json.loads((tmp_path / "answers").read_text())
        assert len({entry["image_id"] for entry in entries}) >= 20
    else:
        assert len(list((tmp_path / "answers").iterdir())) == 23


@pytest.mark.ddp
@pytest.mark.slow
@pytest.mark.parametrize("kind", KINDS)
def test_two_devices_train(scenes_root, pretrained, tmp_path, kind):
    """No parameter goes unused, and both devices end with the same weights."""
    made = changes(scenes_root, kind, pretrained)
    made = [item.replace("data.batch_size=8", "data.batch_size=4") for item in made]
    command = [
        sys.executable, "-m", "conmim_lightning.train", f"experiment={EXPERIMENTS[kind]}", *made, "logger=csv",
        "trainer=ddp", "trainer.accelerator=cpu", "trainer.devices=2", "trainer.precision=32-true",
        "trainer.sync_batchnorm=false" if kind == "segmentation" else "trainer.log_every_n_steps=2",
        f"paths.run_dir={tmp_path}",
    ]  # fmt: skip
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=300)
    assert done.returncode == 0, done.stderr
    assert "unused" not in done.stderr
    assert ("test/miou" if kind == "segmentation" else "test/box_ap") in figures(tmp_path)


def test_inspection_covers_class_maps(scenes_root, tmp_path):
    root = tmp_path / "ade20k"
    for part in ("training", "validation"):
        for kind in ("images", "annotations"):
            (root / kind / part).mkdir(parents=True)
            for path in sorted((scenes_root / "ade20k" / kind / part).iterdir())[:4]:
                (root / kind / part / path.name).write_bytes(path.read_bytes())
    maps = sorted((root / "annotations" / "training").iterdir())
    Image.fromarray(np.full((64, 64), 99, np.uint8)).save(maps[1])
    Image.fromarray(np.zeros((10, 64), np.uint8)).save(maps[2])
    given = ["data=segmentation_scenes", "data.prepare=null", f"data.root={root}", "data.num_workers=0"]
    account = inspect(composed("inspect", tmp_path / "i", *given, "inspect.num_workers=0", "backbone=vit_tiny_dense"))
    assert account["annotations"] == 2
    lines = (tmp_path / "i" / "annotations.tsv").read_text().splitlines()
    assert "values that are no classes: 99" in lines[0]
    assert "64 x 10 pixels" in lines[1]
    assert [line.split("\t")[0] for line in (tmp_path / "i" / "exclude.tsv").read_text().splitlines()] == [
        maps[1].with_suffix(".jpg").name,
        maps[2].with_suffix(".jpg").name,
    ]


def test_inspection_covers_objects(scenes_root, tmp_path):
    root = tmp_path / "coco"
    names = sorted((scenes_root / "coco" / "train").iterdir())[:6]
    (root / "train").mkdir(parents=True)
    for path in names:
        (root / "train" / path.name).write_bytes(path.read_bytes())
    found = json.loads((scenes_root / "coco" / "annotations" / "instances_train.json").read_text())
    found["images"] = [entry for entry in found["images"] if entry["file_name"] in {path.name for path in names}]
    kept = {entry["id"] for entry in found["images"]}
    found["annotations"] = [entry for entry in found["annotations"] if entry["image_id"] in kept]
    found["annotations"][0]["segmentation"] = [[1, 2, 3]]
    Image.new("RGB", (9, 9)).save(root / "train" / names[-1].name, "JPEG")
    (root / "annotations").mkdir()
    (root / "annotations" / "instances_train.json").write_text(json.dumps(found))
    given = ["data=coco_scenes", "data.prepare=null", f"data.root={root}", "data.num_workers=0"]
    account = inspect(composed("inspect", tmp_path / "i", *given, "inspect.num_workers=0", "backbone=vit_tiny_dense"))
    told = (tmp_path / "i" / "annotations.tsv").read_text()
    assert account["annotations"] == 2
    assert "polygons need at least three points" in told
    assert "is 9 x 9 pixels, its annotation says 64 x 64" in told


BAD = {
    "no such blocks": ("segmentation", ["task.model.read=[3,5,7,11]"], r"read must be .* 0 to 3, got \[3, 5, 7, 11\]"),
    "another size": (
        "segmentation",
        ["task.model.size=32"],
        r"image is of shape \(3, 64, 64\), the model takes \(3, 32",
    ),
    "classes": (
        "segmentation",
        ["data.num_classes=3", "data.source.class_names=[a,b,c]"],
        "values that are no classes",
    ),
    "one image": ("segmentation", ["data.batch_size=1"], "batch norm needs at least 2 images"),
    "head": ("segmentation", ["task.model.auxiliary_map=4"], "auxiliary_map must be null or from 0 to 3, got 4"),
    "shape": ("coco", ["schedule.shape=square"], "one of .*cosine.*, got 'square'"),
    "categories": ("coco", ["data.num_classes=5"], "has 6 classes, but data.num_classes is 5"),
    "window": ("coco", ["task.model.global_blocks=[9]"], r"global_blocks must be .* got \[9\]"),
    "no folder": ("coco", ["data.root=/nowhere", "data.prepare=null"], "'/nowhere' does not exist"),
}


@pytest.mark.parametrize("name", BAD)
def test_bad_input(scenes_root, tmp_path, name):
    from hydra.errors import HydraException

    kind, overrides, told = BAD[name]
    made = [*tiny_dense(scenes_root, kind), *overrides, "debug=two_steps"]
    with pytest.raises((ValueError, HydraException), match=told):
        train(composed("train", tmp_path, f"experiment={EXPERIMENTS[kind]}", *made))
