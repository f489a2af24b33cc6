"""From pre-training through fine-tuning and probes to evaluation and export, by the doors that users take."""

import csv
import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import timm
import torch
from conftest import tiny_labelled, tiny_overrides
from hydra import compose, initialize_config_dir
from safetensors.torch import load_file
from stopping import StopOnly, run_with

from conmim_lightning.config import CONF_DIR
from conmim_lightning.evaluate import run as evaluate
from conmim_lightning.export import run as export
from conmim_lightning.resolvers import register_resolvers
from conmim_lightning.train import run as train
from conmim_lightning.weights.checkpoint import read_checkpoint

FEW = "task.probes.knn.num_neighbors=[1,5]"


def composed(name: str, folder: Path, *overrides: str):
    register_resolvers()
    own = [] if name == "export" else [f"paths.run_dir={folder}"]
    own += ["logger=none", "trainer=cpu"] if name == "train" else []
    own += ["trainer.accelerator=cpu", "trainer.devices=1", "trainer.precision=32-true"] if name == "evaluate" else []
    with initialize_config_dir(CONF_DIR, version_base="1.3"):
        return compose(name, [*own, *overrides])


def figures(folder: Path) -> dict[str, float]:
    return json.loads((folder / "metrics.json").read_text())


def table(path: Path) -> list[dict[str, str]]:
    with path.open() as file:
        return list(csv.DictReader(file, delimiter="\t"))


def state(folder: Path) -> dict[str, torch.Tensor]:
    return read_checkpoint(folder)["state_dict"]


@pytest.fixture(scope="module")
def runs(tmp_path_factory, scenes_root):
    """A pre-training of two steps, and what is built on its teacher."""
    folder = tmp_path_factory.mktemp("runs")
    small = [item for item in tiny_overrides(scenes_root) if "report" not in item]
    changes = ["experiment=quickstart", *small, "backbone.depth=4", "debug=two_steps", "optimizer.lr=0.1"]
    train(composed("train", folder / "pretrained", *changes, "~callbacks.report", "~callbacks.probe"))
    labelled = [item for item in tiny_labelled(scenes_root) if "weights" not in item]
    labelled += [f"backbone.weights={folder}/pretrained", "trainer.log_every_n_steps=1"]
    short = ["schedule.epochs=3", "schedule.warmup_epochs=1", "data.subset_count=null", "data.batch_size=8"]
    train(composed("train", folder / "finetuned", "experiment=quickstart_finetune", *labelled, *short))
    train(composed("train", folder / "linear", "experiment=vit_b_linear", *labelled, "schedule.epochs=2"))
    train(composed("train", folder / "frozen", "experiment=vit_b_frozen", *labelled, "task/probes=all", FEW))
    return folder, [*labelled, *short]


@pytest.mark.parametrize("kind", ["finetuned", "linear", "frozen"])
def test_evaluated_alone_as_at_the_end_of_the_run(runs, tmp_path, kind):
    folder, _ = runs
    found = evaluate(composed("evaluate", tmp_path, f"checkpoint={folder}/{kind}", f"predictions={tmp_path}/table.tsv"))
    wanted = {name: value for name, value in figures(folder / kind).items() if name.startswith("test/")}
    assert found == pytest.approx(wanted, rel=1e-5)
    assert figures(tmp_path) == found
    assert {"per_class.tsv", "confusion.png"} <= {path.name for path in tmp_path.iterdir()}
    rows = table(tmp_path / "table.tsv")
    assert len(rows) == 24
    right = sum(row["class"] == row["answer_1"] for row in rows) / len(rows)
    assert right == pytest.approx(found["test/top1"])
    assert all(float(row["score_1"]) >= float(row["score_2"]) for row in rows)
    per_class = table(tmp_path / "per_class.tsv")
    assert sum(int(row["images"]) for row in per_class) == 24
    assert sum(int(row["images"]) * float(row["top1"]) for row in per_class if int(row["images"])) == pytest.approx(
        24 * right, abs=0.01
    )


@pytest.mark.parametrize("kind", ["finetuned", "linear", "frozen"])
def test_images_without_labels_get_names(runs, tmp_path, scenes_root, kind):
    folder, _ = runs
    (tmp_path / "new").mkdir()
    for image in sorted((scenes_root / "ade20k" / "images" / "validation").iterdir())[:3]:
        shutil.copy(image, tmp_path / "new")
    (tmp_path / "new" / "broken.jpg").write_bytes(b"nothing")
    found = evaluate(
        composed("evaluate", tmp_path, f"checkpoint={folder}/{kind}", f"images={tmp_path}/new", "all_scores=true")
    )
    assert found == {}
    rows = table(tmp_path / "predictions.tsv")
    assert rows[0]["image"] == "broken.jpg"
    assert rows[0]["cannot_be_read"]
    assert rows[0]["answer_1"] is None
    classes = read_checkpoint(folder / kind)["classes"]
    for row in rows[1:]:
        assert (row["class"], row["cannot_be_read"]) == ("", "")
        assert row["answer_1"] in classes
        assert sum(float(row[f"score of {name}"]) for name in classes) == pytest.approx(1, abs=1e-4)


def test_other_images_of_the_same_classes(runs, tmp_path, scenes_root):
    folder, _ = runs
    shutil.copytree(scenes_root / "folders" / "train", tmp_path / "other" / "val")
    changes = [f"data.root={tmp_path}/other", "data.evaluation_batch_size=5"]
    found = evaluate(composed("evaluate", tmp_path / "e", f"checkpoint={folder}/finetuned", *changes))
    assert 0 <= found["test/top1"] <= 1
    (tmp_path / "other" / "val" / "disc").rename(tmp_path / "other" / "val" / "disk")
    with pytest.raises(ValueError, match=r"has classes \['disk'\] that are not among"):
        evaluate(composed("evaluate", tmp_path / "e", f"checkpoint={folder}/finetuned", *changes))


def test_what_cannot_be_evaluated(runs, tmp_path):
    folder, _ = runs
    with pytest.raises(ValueError, match=r"knows no classes, as it is of pre-training; use it as backbone.weights"):
        evaluate(composed("evaluate", tmp_path, f"checkpoint={folder}/pretrained"))
    with pytest.raises(ValueError, match=r"'nowhere' does not exist"):
        evaluate(composed("evaluate", tmp_path, "checkpoint=nowhere"))
    with pytest.raises(ValueError, match=r"data.rot: .* takes no such argument"):
        evaluate(composed("evaluate", tmp_path, f"checkpoint={folder}/finetuned", "+data.rot=x"))


@pytest.mark.parametrize("branch", ["teacher", "student"])
def test_fine_tuning_starts_from_what_was_named(runs, tmp_path, branch):
    """At a rate of nothing the blocks stay those of the teacher, or the student."""
    folder, changes = runs
    still = ["optimizer.lr=1e-30", "optimizer.weight_decay=0", f"backbone.branch={branch}", "debug=two_steps"]
    train(composed("train", tmp_path, "experiment=quickstart_finetune", *changes, *still))
    prefix = {"teacher": "model.teacher.branch.encoder.backbone.", "student": "model.student.encoder.backbone."}[branch]
    before, after = state(folder / "pretrained"), state(tmp_path)
    for name in ("cls_token", "blocks.3.mlp.fc2.weight"):
        torch.testing.assert_close(after[f"model.{name}"], before[prefix + name])
    shared = before[prefix + "rel_pos_bias.relative_position_bias_table"]
    for block in range(4):
        torch.testing.assert_close(after[f"model.blocks.{block}.attn.relative_position_bias_table"], shared)


@pytest.mark.parametrize(
    "extra", [[], ["callbacks=classification_ema", "callbacks.ema.decay=0.5"]], ids=["plain", "average"]
)
def test_resumed_equals_straight_through(runs, tmp_path, monkeypatch, extra):
    """Mixup, erasing, RandAugment and drop path included; the weights' place is not needed any more."""
    _, changes = runs
    harder = [
        *changes, *extra, "backbone.drop_path_rate=0.3", "data.train_transform.auto_augment=rand-m9-mstd0.5-inc1",
        "+task.mixup._target_=timm.data.Mixup", "+task.mixup.num_classes=6",
        "+task.erasing._target_=timm.data.random_erasing.RandomErasing", "+task.erasing.probability=0.5",
    ]  # fmt: skip
    harder = [
        item.replace("+task.mixup.", "++task.mixup.").replace("+task.erasing", "++task.erasing") for item in harder
    ]
    train(composed("train", tmp_path / "whole", "experiment=quickstart_finetune", *harder))
    run_with(composed("train", tmp_path / "first", "experiment=quickstart_finetune", *harder), monkeypatch, StopOnly(8))
    assert not [name for name in figures(tmp_path / "first") if name.startswith("test/")]  # stopped before its end
    gone = [item if "weights" not in item else "backbone.weights=/nowhere" for item in harder]
    resume = f"resume={tmp_path}/first/checkpoints/last.ckpt"
    trainer = train(composed("train", tmp_path / "second", "experiment=quickstart_finetune", *gone, resume))
    assert trainer.global_step == 18
    one, other = state(tmp_path / "whole"), state(tmp_path / "second")
    assert all(torch.equal(value, other[name]) for name, value in one.items())
    assert figures(tmp_path / "second")["test/top1"] == figures(tmp_path / "whole")["test/top1"]


def test_an_average_is_saved_and_the_weights_beside_it(runs, tmp_path):
    folder, changes = runs
    average = ["callbacks=classification_ema", "callbacks.ema.decay=0.5"]
    train(composed("train", tmp_path, "experiment=quickstart_finetune", *changes, *average))
    saved, plain = read_checkpoint(tmp_path), state(folder / "finetuned")
    for name, value in plain.items():
        torch.testing.assert_close(saved["current_model_state"][name], value)
    assert not torch.equal(saved["state_dict"]["model.head.weight"], plain["model.head.weight"])
    found = evaluate(composed("evaluate", tmp_path / "e", f"checkpoint={tmp_path}"))
    tested = {name: value for name, value in figures(tmp_path).items() if name.startswith("test/")}
    assert found == pytest.approx(tested, rel=1e-5)


PLAIN = """
import sys, timm, torch
model = timm.create_model("local-dir:" + sys.argv[1], pretrained=True).eval()
images = torch.load(sys.argv[2])
with torch.no_grad():
    torch.save(model(images), sys.argv[3])
assert not [name for name in sys.modules if "conmim" in name]
config = model.pretrained_cfg
print(config["label_names"][0], round(config["crop_pct"], 3))
"""


def test_a_classifier_in_plain_timm_and_back(runs, tmp_path):
    folder, changes = runs
    out = export(composed("export", tmp_path, f"checkpoint={folder}/finetuned", f"output={tmp_path}/out"))
    images = torch.randn(2, 3, 32, 32)
    torch.save(images, tmp_path / "images.pt")
    told = subprocess.run(
        [sys.executable, "-c", PLAIN, str(out), str(tmp_path / "images.pt"), str(tmp_path / "logits.pt")],
        cwd=tmp_path, capture_output=True, text=True, check=False, timeout=120,
    )  # fmt: skip
    assert told.returncode == 0, told.stderr
    assert told.stdout.split() == [read_checkpoint(folder / "finetuned")["classes"][0], "1.0"]
    assert "knows 6 classes" in (out / "README.md").read_text()
    still = [item for item in changes if "weights" not in item]
    still += [f"backbone.weights={out}", "optimizer.lr=1e-30", "optimizer.weight_decay=0", "debug=two_steps"]
    trainer = train(composed("train", tmp_path / "again", "experiment=quickstart_finetune", *still))
    with torch.no_grad():
        logits = trainer.lightning_module.eval()(images)
    torch.testing.assert_close(torch.load(tmp_path / "logits.pt"), logits, rtol=1e-5, atol=1e-5)


def test_a_headless_export_and_one_without_any(runs, tmp_path):
    folder, _ = runs
    out = export(composed("export", tmp_path, f"checkpoint={folder}/finetuned", f"output={tmp_path}/a", "head=false"))
    assert not [name for name in load_file(out / "model.safetensors") if name.startswith("head")]
    assert timm.create_model(f"local-dir:{out}", pretrained=True)(torch.zeros(1, 3, 32, 32)).shape == (1, 16)
    with pytest.raises(ValueError, match="has no classifier to export"):
        export(composed("export", tmp_path, f"checkpoint={folder}/pretrained", f"output={tmp_path}/b", "head=true"))


def test_an_exported_teacher_gives_the_same_probes(runs, tmp_path):
    """The folder goes back in through backbone.weights= as the run itself does."""
    folder, changes = runs
    out = export(composed("export", tmp_path, f"checkpoint={folder}/pretrained", f"output={tmp_path}/out"))
    found = []
    for name, place in (("run", folder / "pretrained"), ("folder", out)):
        own = [item for item in changes if "weights" not in item and "schedule" not in item]
        train(composed("train", tmp_path / name, "experiment=vit_b_knn", *own, FEW, f"backbone.weights={place}"))
        found.append({key: value for key, value in figures(tmp_path / name).items() if key.startswith("test/")})
    assert found[0] == found[1]


def test_features_of_several_crops(runs, tmp_path):
    """Twice as many neighbours, and others than the central squares."""
    _, changes = runs
    own = [item for item in changes if "schedule" not in item]
    train(composed("train", tmp_path, "experiment=vit_b_knn", *own, FEW, "task.views=2"))
    bank = state(tmp_path)["probes.knn._extra_state"]["bank"]
    assert len(bank) == 2 * 48
    assert not torch.equal(bank[:48], bank[48:])


def test_a_fine_tuned_model_may_be_probed(runs, tmp_path):
    folder, changes = runs
    own = [item for item in changes if "schedule" not in item and "weights" not in item]
    own += [f"backbone.weights={folder}/finetuned", "backbone=vit_tiny_finetuned", FEW]
    train(composed("train", tmp_path, "experiment=vit_b_knn", *own))
    before, after = state(folder / "finetuned"), state(tmp_path)
    assert torch.equal(after["features.backbone.blocks.3.attn.qkv.weight"], before["model.blocks.3.attn.qkv.weight"])


def test_neighbours_vote_in_full_precision_under_bfloat16(runs, tmp_path, monkeypatch):
    """The encoder may run in bfloat16; cosines must not."""
    from conmim_lightning.probes import knn

    seen, original = [], knn.knn_votes

    def spy(queries, *args, **kwargs):
        seen.append(((queries @ queries.T).dtype, torch.is_autocast_enabled("cpu")))
        return original(queries, *args, **kwargs)

    monkeypatch.setattr(knn, "knn_votes", spy)
    _, changes = runs
    own = [item for item in changes if "schedule" not in item and "precision" not in item]
    train(composed("train", tmp_path, "experiment=vit_b_knn", *own, FEW, "trainer.precision=bf16-mixed"))
    assert set(seen) == {(torch.float32, False)}


def test_choosing_on_the_test_images_is_refused(runs, tmp_path):
    _, changes = runs
    with pytest.raises(ValueError, match=r"27 classifiers to choose from need other images than the test's"):
        train(composed("train", tmp_path, "experiment=vit_b_linear", *changes, "data.held_out_share=0"))


def test_there_is_nothing_to_resume_in_a_test(runs, tmp_path):
    folder, changes = runs
    own = [item for item in changes if "schedule" not in item]
    with pytest.raises(ValueError, match=r"resume= goes on with a training, and stages has none"):
        train(composed("train", tmp_path, "experiment=vit_b_knn", *own, f"resume={folder}/finetuned"))


def test_broken_images_of_val_do_not_count_against_training(runs, tmp_path, scenes_root):
    _, changes = runs
    shutil.copytree(scenes_root / "folders", tmp_path / "set")
    for path in sorted((tmp_path / "set" / "val").glob("*/*.jpg"))[:2]:
        path.write_bytes(b"nothing")
    own = [*changes, "data.prepare=null", f"data.root={tmp_path}/set", "data.evaluation_batch_size=1"]
    train(composed("train", tmp_path / "run", "experiment=quickstart_finetune", *own))
    assert not (tmp_path / "run" / "broken_images.tsv").exists()
    assert len((tmp_path / "run" / "test_broken_images.tsv").read_text().splitlines()) == 2
    assert figures(tmp_path / "run")["test/unreadable_images"] == 2


def test_a_larger_image_after_fine_tuning(runs, tmp_path):
    """As vit_b_finetune_384: tables are resized, the head is kept."""
    folder, changes = runs
    own = [item for item in changes if "weights" not in item and "img_size" not in item]
    own += ["backbone.img_size=48", f"backbone.weights={folder}/finetuned", "optimizer.lr=1e-30", "debug=two_steps"]
    train(composed("train", tmp_path, "experiment=quickstart_finetune", *own, "optimizer.weight_decay=0"))
    before, after = state(folder / "finetuned"), state(tmp_path)
    torch.testing.assert_close(after["model.head.weight"], before["model.head.weight"])
    assert after["model.blocks.0.attn.relative_position_bias_table"].shape == (11 * 11 + 3, 2)


def test_classes_may_be_weighed_or_drawn_alike(runs, tmp_path):
    _, changes = runs
    own = ["task.class_weights=balanced", "data.balanced=true", "debug=two_steps"]
    assert train(composed("train", tmp_path, "experiment=quickstart_finetune", *changes, *own)).global_step == 2


@pytest.mark.slow
@pytest.mark.ddp
@pytest.mark.parametrize("kind", ["finetuned", "frozen"])
def test_two_devices_count_every_image_once(runs, tmp_path, kind):
    """Evaluated, and for frozen features also fitted, by two processes: the same figures as by one."""
    folder, changes = runs
    if kind == "finetuned":
        words = ["conmim_lightning.evaluate", f"checkpoint={folder}/{kind}", "+data.batch_size=5"]
        words += ["trainer.accelerator=cpu", "trainer.devices=2", "trainer.strategy=ddp", "trainer.precision=32-true"]
    else:
        own = [item for item in changes if "schedule" not in item]
        words = ["conmim_lightning.train", "experiment=vit_b_frozen", "task/probes=all", FEW, *own, "logger=none"]
        words += ["trainer=ddp", "trainer.accelerator=cpu", "trainer.devices=2"]
    told = subprocess.run(
        [sys.executable, "-m", *words, f"hydra.run.dir={tmp_path}/run"],
        cwd=tmp_path, capture_output=True, text=True, check=False, timeout=300,
    )  # fmt: skip
    assert told.returncode == 0, told.stderr[-3000:]
    wanted = {name: value for name, value in figures(folder / kind).items() if name.startswith("test/")}
    found = {name: value for name, value in figures(tmp_path / "run").items() if name.startswith("test/")}
    if kind == "frozen":  # the linear classifiers see the images in another order
        wanted, found = ({n: v for n, v in both.items() if "linear" not in n} for both in (wanted, found))
    assert found == pytest.approx(wanted, rel=1e-3, abs=1e-4)


@pytest.mark.slow
@pytest.mark.ddp
@pytest.mark.parametrize("experiment", ["quickstart_finetune", "vit_b_linear"])
def test_two_devices_train_as_one(runs, tmp_path, experiment):
    """The same images a step: the same weights within float rounding, the same figures."""
    _, changes = runs
    changes = [item for item in changes if "batch_size" not in item] + ["seed=1"]
    changes += ["task.norm=none", "task.rates=[0.1,0.01]"] if "linear" in experiment else []
    train(composed("train", tmp_path / "one", f"experiment={experiment}", *changes, "data.batch_size=8"))
    words = [f"experiment={experiment}", *changes, "data.batch_size=4", "logger=none", "trainer=ddp"]
    words += ["trainer.accelerator=cpu", "trainer.devices=2", f"hydra.run.dir={tmp_path}/two"]
    told = subprocess.run(
        [sys.executable, "-m", "conmim_lightning.train", *words],
        cwd=tmp_path, capture_output=True, text=True, check=False, timeout=300,
    )  # fmt: skip
    assert told.returncode == 0, told.stderr[-3000:]
    one, two = state(tmp_path / "one"), state(tmp_path / "two")
    for name, value in one.items():
        torch.testing.assert_close(two[name], value, rtol=1e-3, atol=1e-4)
    for name, value in figures(tmp_path / "one").items():
        if name.startswith(("val/", "test/")):
            assert figures(tmp_path / "two")[name] == pytest.approx(value, abs=1e-3), name


@pytest.mark.slow
def test_full_size_equals_timms_own_beit(tmp_path):
    """ViT-B/16 at 224 pixels: our fine-tuning forward against beit_base_patch16_224 with the exported weights."""
    from conmim_lightning.models.backbones import beit
    from conmim_lightning.weights.timm_folder import export_backbone

    arguments = {
        "img_size": 224, "patch_size": 16, "embed_dim": 768, "depth": 12, "num_heads": 12, "init_values": 0.1,
        "use_abs_pos_emb": False, "use_rel_pos_bias": True, "num_classes": 1000, "global_pool": "avg",
    }  # fmt: skip
    ours = beit(**arguments).eval()
    with torch.no_grad():
        for name, value in ours.named_parameters():
            if "bias_table" in name or name.endswith("_bias") or "head" in name:
                value.normal_(std=0.5)
    export_backbone(ours, arguments, tmp_path / "out", mean=[0.5] * 3, std=[0.5] * 3, card="")
    theirs = timm.create_model("beit_base_patch16_224", pretrained=False, num_classes=1000)
    theirs.load_state_dict(load_file(tmp_path / "out" / "model.safetensors"))
    images = torch.randn(2, 3, 224, 224)
    with torch.no_grad():
        torch.testing.assert_close(theirs.eval()(images), ours(images), rtol=1e-5, atol=1e-5)
