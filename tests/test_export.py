"""Exports are opened by timm alone, in a process that does not import this project."""

import json
import subprocess
import sys

import onnxruntime
import pytest
import timm
import torch
from conftest import tiny_overrides
from downstream_runs import FEW, configure, export, metrics_of
from hydra import compose, initialize_config_dir
from safetensors.torch import load_file

from conmim_lightning.config.check import CONF_DIR
from conmim_lightning.config.resolvers import register_resolvers
from conmim_lightning.export import run as run_export
from conmim_lightning.runtime.restore import restored_task
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


OTHERS = {
    "huggingface": ("transformers", """
import transformers
model = transformers.AutoModelForImageClassification.from_pretrained(sys.argv[1])
with torch.no_grad():
    result = model(images).logits
print(model.config.id2label[0])
"""),
    "onnx": ("onnxruntime", """
import onnxruntime
session = onnxruntime.InferenceSession(sys.argv[1], providers=["CPUExecutionProvider"])
result = torch.from_numpy(session.run(None, {"images": images.numpy()})[0])
print(session.get_modelmeta().custom_metadata_map["classes"])
"""),
    "torch": ("torch", """
with torch.no_grad():
    result = torch.export.load(sys.argv[1]).module()(images)
print("")
"""),
    "timm in transformers": ("transformers", """
import transformers
model = transformers.AutoModelForImageClassification.from_pretrained(sys.argv[1]).eval()
with torch.no_grad():
    result = model(images).logits
processor = transformers.AutoImageProcessor.from_pretrained(sys.argv[1])
print(model.config.id2label[0], type(processor).__name__)
"""),
}  # fmt: skip
"""Library and script by format."""


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
        (["checkpoint=CHECKPOINT", "output=x", "branch=both"], "branch: one of teacher, student is needed, got 'both'"),
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
    assert "| test/top1 |" in (out / "README.md").read_text() or "| val/top1 |" in (out / "README.md").read_text()
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


@pytest.mark.slow
@pytest.mark.parametrize("form", OTHERS)
def test_a_classifier_without_this_project(labelled_runs, tmp_path, form):
    folder, _ = labelled_runs
    kind = form.split()[0]
    output = f"{tmp_path}/out{ {'onnx': '.onnx', 'torch': '.pt2'}.get(kind, '') }".replace(" ", "")
    run_export(configure("export", tmp_path, f"checkpoint={folder}/finetuned", f"output={output}", f"format={kind}"))
    script = "import sys, torch\nimages = torch.load(sys.argv[2])\n" + OTHERS[form][1]
    script += "torch.save(result, sys.argv[3])\nassert not [name for name in sys.modules if 'conmim' in name]\n"
    images = torch.randn(2, 3, 32, 32)
    text, result = in_timm(script, output, images, tmp_path)
    with torch.no_grad():
        expected = restored_task(str(folder / "finetuned"))[0].eval()(images)
    torch.testing.assert_close(result, expected, rtol=1e-5, atol=1e-5)
    assert form == "torch" or read_checkpoint(folder / "finetuned")["classes"][0] in text


@pytest.mark.slow
def test_dense_models(dense_runs, tmp_path):
    """Segmenters as graphs; a format that lacks them, and detectors, say so."""
    own = [f"checkpoint={dense_runs}/segmentation"]
    images = torch.randn(3, 3, 64, 64)
    with torch.no_grad():
        expected = restored_task(str(dense_runs / "segmentation"))[0].eval().model(images).scores
    run_export(configure("export", tmp_path, *own, f"output={tmp_path}/x.onnx", "format=onnx"))
    session = onnxruntime.InferenceSession(str(tmp_path / "x.onnx"), providers=["CPUExecutionProvider"])
    scores = torch.from_numpy(session.run(None, {"images": images.numpy()})[0])
    torch.testing.assert_close(scores, expected, rtol=1e-4, atol=1e-4)
    run_export(configure("export", tmp_path, *own, f"output={tmp_path}/x.pt2", "format=torch"))
    with torch.no_grad():
        scores = torch.export.load(tmp_path / "x.pt2").module()(images)
    torch.testing.assert_close(scores, expected, rtol=1e-4, atol=1e-4)
    for kind, run, message in (
        ("timm", "segmentation", "timm has no segmenter of this architecture; use format=onnx"),
        ("onnx", "coco", "a detector is no graph of fixed operations"),
        ("torch", "coco", "a detector is no graph of fixed operations"),
        ("huggingface", "coco", "transformers has no detector of this architecture; use conmim_lightning.load"),
    ):
        suffix = {"onnx": ".onnx", "torch": ".pt2"}.get(kind, "")
        with pytest.raises(ValueError, match=message):
            run_export(configure("export", tmp_path, f"checkpoint={dense_runs}/{run}", f"output={tmp_path}/y{suffix}",
                                 f"format={kind}"))  # fmt: skip
