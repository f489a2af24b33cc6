"""Exports are opened by timm alone, in a process that does not import this project."""

import json
import subprocess
import sys

import pytest
import timm
import torch
from conftest import tiny_overrides
from downstream_runs import FEW, configure, export, metrics_of
from hydra import compose, initialize_config_dir
from safetensors.torch import load_file

from conmim_lightning.config.check import CONF_DIR
from conmim_lightning.config.resolvers import register_resolvers
from conmim_lightning.train import run as train
from conmim_lightning.weights.checkpoint import read_checkpoint
from conmim_lightning.weights.read import read_weights

TOKENS = """
import sys, timm, torch
model = timm.create_model("local-dir:" + sys.argv[1], pretrained=True, num_classes=0).eval()
images = torch.load(sys.argv[2])
with torch.no_grad():
    torch.save(model.forward_features(images), sys.argv[3])
assert not [name for name in sys.modules if "conmim" in name]
config = timm.data.resolve_model_data_config(model)
print(tuple(config["input_size"]), list(config["mean"]))
"""
CLASSIFIER = """
import sys, timm, torch
model = timm.create_model("local-dir:" + sys.argv[1], pretrained=True).eval()
images = torch.load(sys.argv[2])
with torch.no_grad():
    torch.save(model(images), sys.argv[3])
assert not [name for name in sys.modules if "conmim" in name]
config = model.pretrained_cfg
print(config["label_names"][0], round(config["crop_pct"], 3))
"""


def in_timm(script, folder, images, tmp_path):
    """What a script prints and saves, in a process that has never imported this project."""
    torch.save(images, tmp_path / "images.pt")
    done = subprocess.run(
        [sys.executable, "-c", script, str(folder), str(tmp_path / "images.pt"), str(tmp_path / "result.pt")],
        cwd=tmp_path, capture_output=True, text=True, check=False, timeout=120,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return done.stdout, torch.load(tmp_path / "result.pt")


@pytest.fixture(scope="module")
def trained(tmp_path_factory, scenes_root):
    """Tasks of all families after two steps, with their checkpoints."""
    register_resolvers()
    folder, tasks = tmp_path_factory.mktemp("runs"), {}
    for name, changes in {
        "shared": ["experiment=quickstart"],
        "absolute": ["experiment=vit_b_pretrain", "backbone.positions=absolute", "schedule.warmup_epochs=0"],
        "rotary": ["experiment=vit_b_pretrain", "backbone.positions=rotary", "schedule.warmup_epochs=0"],
    }.items():
        overrides = [
            f"paths.run_dir={folder}/{name}",
            "logger=none",
            "trainer=cpu",
            "debug=two_steps",
            "~callbacks.probe",
        ]
        small = [item for item in tiny_overrides(scenes_root) if "report" not in item]
        with initialize_config_dir(CONF_DIR, version_base="1.3"):
            cfg = compose("train", [*changes, *overrides, *small, "~callbacks.report", "optimizer.lr=0.1"])
        tasks[name] = train(cfg).lightning_module, folder / name / "checkpoints" / "last.ckpt"
    return tasks


@pytest.mark.slow
@pytest.mark.parametrize("family", ["shared", "absolute", "rotary"])
def test_timm_has_the_teachers_tokens(trained, tmp_path, family):
    task, checkpoint = trained[family]
    folder = export(configure("export", tmp_path, f"checkpoint={checkpoint}", f"output={tmp_path}/out"))
    images = torch.randn(2, 3, 32, 32)
    output, result = in_timm(TOKENS, folder, images, tmp_path)
    assert output.split("\n")[0] == "(3, 32, 32) [0.5, 0.5, 0.5]"
    with torch.no_grad():
        expected = task.eval()(images)
    tokens = result[:, task.model.teacher_encoder.num_prefix_tokens :]
    torch.testing.assert_close(tokens, expected, rtol=1e-5, atol=1e-5)
    assert {path.name for path in folder.iterdir()} == {"model.safetensors", "config.json", "README.md"}
    assert "timm.create_model" in (folder / "README.md").read_text()
    assert json.loads((folder / "config.json").read_text())["model_args"]["img_size"] in (32, [32, 32])


def test_the_student_is_another_encoder(trained, tmp_path):
    task, checkpoint = trained["shared"]
    for branch in ("teacher", "student"):
        own = [f"checkpoint={checkpoint}", f"output={tmp_path}/{branch}", f"branch={branch}"]
        export(configure("export", tmp_path, *own))
    teacher, student = (load_file(tmp_path / branch / "model.safetensors") for branch in ("teacher", "student"))
    assert not torch.equal(teacher["cls_token"], student["cls_token"])
    assert torch.equal(student["cls_token"], task.model.student.encoder.backbone.cls_token)


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (["checkpoint=/nowhere", "output=x"], "'/nowhere' does not exist"),
        (["output=x"], "checkpoint: missing"),
        (["checkpoint=CHECKPOINT", "output=x", "branch=both"], "branch must be one of .* got 'both'"),
        (["checkpoint=CHECKPOINT", "output=FULL"], "is not an empty folder"),
    ],
)
def test_bad_input(trained, tmp_path, overrides, message):
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "x").write_text("")
    paths = {"CHECKPOINT": str(trained["shared"][1]), "FULL": str(tmp_path / "full")}
    for name, path in paths.items():
        overrides = [item.replace(name, path) for item in overrides]
    with pytest.raises(ValueError, match=message):
        export(configure("export", tmp_path, *overrides))


def test_a_classifier_in_timm_and_back(labelled_runs, tmp_path):
    folder, changes = labelled_runs
    out = export(configure("export", tmp_path, f"checkpoint={folder}/finetuned", f"output={tmp_path}/out"))
    images = torch.randn(2, 3, 32, 32)
    output, result = in_timm(CLASSIFIER, out, images, tmp_path)
    assert output.split() == [read_checkpoint(folder / "finetuned")["classes"][0], "1.0"]
    assert "has 6 classes" in (out / "README.md").read_text()
    frozen = [item for item in changes if "weights" not in item]
    frozen += [
        f"backbone.weights={out}",
        "optimizer.lr=1e-30",
        "schedule.min_lr=0",
        "optimizer.weight_decay=0",
        "debug=two_steps",
    ]
    trainer = train(configure("train", tmp_path / "again", "experiment=quickstart_finetune", *frozen))
    with torch.no_grad():
        logits = trainer.lightning_module.eval()(images)
    torch.testing.assert_close(result, logits, rtol=1e-5, atol=1e-5)


def test_exports_without_a_classifier(labelled_runs, tmp_path):
    folder, _ = labelled_runs
    out = export(configure("export", tmp_path, f"checkpoint={folder}/finetuned", f"output={tmp_path}/a", "head=false"))
    assert not [name for name in load_file(out / "model.safetensors") if name.startswith("head")]
    assert timm.create_model(f"local-dir:{out}", pretrained=True)(torch.zeros(1, 3, 32, 32)).shape == (1, 16)
    with pytest.raises(ValueError, match="has no classifier to export"):
        export(configure("export", tmp_path, f"checkpoint={folder}/pretrained", f"output={tmp_path}/b", "head=true"))


def test_an_exported_teacher_has_the_same_probe_metrics(labelled_runs, tmp_path):
    """backbone.weights= takes the folder like the run itself."""
    folder, changes = labelled_runs
    out = export(configure("export", tmp_path, f"checkpoint={folder}/pretrained", f"output={tmp_path}/out"))
    results = []
    for name, source in (("run", folder / "pretrained"), ("folder", out)):
        own = [item for item in changes if "weights" not in item and "schedule" not in item]
        train(configure("train", tmp_path / name, "experiment=vit_b_knn", *own, FEW, f"backbone.weights={source}"))
        results.append(metrics_of(tmp_path / name, "test/"))
    assert results[0] == results[1]


def test_a_damaged_export_is_noticed(labelled_runs, tmp_path):
    folder, _ = labelled_runs
    out = export(configure("export", tmp_path, f"checkpoint={folder}/pretrained", f"output={tmp_path}/out"))
    read_weights(str(out))
    content = bytearray((out / "model.safetensors").read_bytes())
    content[-5] ^= 1
    (out / "model.safetensors").write_bytes(content)
    with pytest.raises(
        ValueError, match=r"model.safetensors' is damaged: its SHA-256 differs from that in config.json"
    ):
        read_weights(str(out))
