"""What is exported is opened by plain timm, in a process that never heard of this project."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from conftest import tiny_overrides
from hydra import compose, initialize_config_dir

from conmim_lightning.config import CONF_DIR
from conmim_lightning.export import run
from conmim_lightning.resolvers import register_resolvers
from conmim_lightning.train import run as train

PLAIN = """
import sys, timm, torch
model = timm.create_model("local-dir:" + sys.argv[1], pretrained=True, num_classes=0).eval()
images = torch.load(sys.argv[2])
with torch.no_grad():
    torch.save(model.forward_features(images), sys.argv[3])
assert not [name for name in sys.modules if "conmim" in name]
config = timm.data.resolve_model_data_config(model)
print(tuple(config["input_size"]), list(config["mean"]))
"""


def export(*overrides: str) -> Path:
    register_resolvers()
    with initialize_config_dir(CONF_DIR, version_base="1.3"):
        return run(compose("export", list(overrides)))


@pytest.fixture(scope="module")
def trained(tmp_path_factory, scenes_root):
    """Tasks of all families after two steps, with their checkpoints; the method's at an odd width."""
    register_resolvers()
    folder, found = tmp_path_factory.mktemp("runs"), {}
    for name, changes in {
        "shared": ["experiment=quickstart"],
        "absolute": ["experiment=vit_b_pretrain", "backbone=vit_b_absolute", "schedule.warmup_epochs=0"],
        "rotary": ["experiment=vit_b_pretrain", "backbone=vit_b_rotary", "schedule.warmup_epochs=0"],
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
        found[name] = train(cfg).lightning_module, folder / name / "checkpoints" / "last.ckpt"
    return found


@pytest.mark.slow
@pytest.mark.parametrize("family", ["shared", "absolute", "rotary"])
def test_plain_timm_gives_the_teachers_tokens(trained, tmp_path, family):
    task, checkpoint = trained[family]
    folder = export(f"checkpoint={checkpoint}", f"output={tmp_path}/out")
    images = torch.randn(2, 3, 32, 32)
    torch.save(images, tmp_path / "images.pt")
    told = subprocess.run(
        [sys.executable, "-c", PLAIN, str(folder), str(tmp_path / "images.pt"), str(tmp_path / "tokens.pt")],
        cwd=tmp_path, capture_output=True, text=True, check=False, timeout=120,
    )  # fmt: skip
    assert told.returncode == 0, told.stderr
    assert told.stdout.split("\n")[0] == "(3, 32, 32) [0.5, 0.5, 0.5]"
    with torch.no_grad():
        wanted = task.eval()(images)
    given = torch.load(tmp_path / "tokens.pt")[:, task.model.teacher_encoder.num_prefix_tokens :]
    torch.testing.assert_close(given, wanted, rtol=1e-5, atol=1e-5)
    assert {path.name for path in folder.iterdir()} == {"model.safetensors", "config.json", "README.md"}
    assert "timm.create_model" in (folder / "README.md").read_text()
    assert json.loads((folder / "config.json").read_text())["model_args"]["img_size"] in (32, [32, 32])


def test_the_student_is_another_one(trained, tmp_path):
    from safetensors.torch import load_file

    task, checkpoint = trained["shared"]
    for branch in ("teacher", "student"):
        export(f"checkpoint={checkpoint}", f"output={tmp_path}/{branch}", f"branch={branch}")
    teacher, student = (load_file(tmp_path / branch / "model.safetensors") for branch in ("teacher", "student"))
    assert not torch.equal(teacher["cls_token"], student["cls_token"])
    assert torch.equal(student["cls_token"], task.model.student.encoder.backbone.cls_token)


@pytest.mark.parametrize(
    ("overrides", "told"),
    [
        (["checkpoint=/nowhere", "output=x"], "'/nowhere' does not exist"),
        (["output=x"], "checkpoint: missing"),
        (["checkpoint=CHECKPOINT", "output=x", "branch=both"], "branch must be one of .* got 'both'"),
        (["checkpoint=CHECKPOINT", "output=FULL"], "is not an empty folder"),
    ],
)
def test_bad_input(trained, tmp_path, overrides, told):
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "x").write_text("")
    places = {"CHECKPOINT": str(trained["shared"][1]), "FULL": str(tmp_path / "full")}
    for name, place in places.items():
        overrides = [item.replace(name, place) for item in overrides]
    with pytest.raises(ValueError, match=told):
        export(*overrides)
