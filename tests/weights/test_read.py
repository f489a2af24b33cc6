import argparse
import json
import os

import pytest
import torch
from conftest import conmim
from safetensors.torch import save_file

from conmim_lightning.weights.checkpoint import read_checkpoint
from conmim_lightning.weights.read import read_weights

STATE = {"cls_token": torch.ones(1, 1, 4), "blocks.0.norm1.weight": torch.ones(4)}


def same(state, expected):
    return state.keys() == expected.keys() and all(torch.equal(state[name], expected[name]) for name in expected)


@pytest.fixture
def checkpoint(tmp_path):
    """A pre-training checkpoint in a run's folder; teacher and student differ."""
    model = conmim()
    with torch.no_grad():
        model.teacher.branch.encoder.backbone.cls_token.fill_(7.0)
    state = {f"model.{name}": value for name, value in model.state_dict().items()}
    record = {"config": {"backbone": {"num_heads": 2}, "data": {"mean": [0.5] * 3, "std": [0.25] * 3}}}
    (tmp_path / "run" / "checkpoints").mkdir(parents=True)
    path = tmp_path / "run" / "checkpoints" / "last.ckpt"
    torch.save({"state_dict": state, "loops": {}, "run": record}, path)
    return model, path


@pytest.mark.parametrize("as_folder", [True, False])
def test_a_run_gives_its_teacher_or_its_student(checkpoint, as_folder):
    model, path = checkpoint
    location = str(path.parents[1] if as_folder else path)
    teacher, student = read_weights(location), read_weights(location, "student")
    assert same(teacher.state, model.teacher_encoder.backbone.state_dict())
    assert same(student.state, model.student.encoder.backbone.state_dict())
    assert not torch.equal(teacher.state["cls_token"], student.state["cls_token"])
    assert teacher.arguments == {"num_heads": 2}
    assert (teacher.mean, teacher.std) == ([0.5] * 3, [0.25] * 3)


@pytest.mark.parametrize("wrap", [None, "model", "state_dict", "module"])
def test_an_official_file(tmp_path, wrap):
    """With the modules of the pretext task and the arguments, as the official script saves it."""
    official = STATE | {
        "mask_token": torch.zeros(1, 1, 4),
        "lm_head.weight": torch.zeros(3, 4),
        "projectors.0.weight": torch.zeros(2, 4),
        "rel_pos_bias.relative_position_index": torch.zeros(5, 5),
    }
    content = official if wrap is None else {wrap: official, "epoch": 799, "args": argparse.Namespace(lr=1.0)}
    torch.save(content, tmp_path / "checkpoint_copy-799.pth")
    assert same(read_weights(str(tmp_path / "checkpoint_copy-799.pth")).state, STATE)


def test_files_of_old_torch_and_of_wrapped_models(tmp_path):
    wrapped = {f"module.{name}": value for name, value in STATE.items()}
    torch.save({"state_dict": wrapped}, tmp_path / "old.pth", _use_new_zipfile_serialization=False)
    assert same(read_weights(str(tmp_path / "old.pth")).state, STATE)


def test_safetensors_alone_and_in_an_exported_folder(tmp_path):
    save_file(STATE, tmp_path / "model.safetensors")
    assert same(read_weights(str(tmp_path / "model.safetensors")).state, STATE)
    config = {"model_args": {"num_heads": 3}, "pretrained_cfg": {"mean": [0.1], "std": [0.2]}}
    (tmp_path / "config.json").write_text(json.dumps(config))
    weights = read_weights(str(tmp_path))
    assert same(weights.state, STATE)
    assert (weights.arguments, weights.mean, weights.std) == ({"num_heads": 3}, [0.1], [0.2])


def test_a_name_is_loaded_by_timm(monkeypatch):
    import timm

    requested = []

    def create(name, pretrained):
        requested.append((name, pretrained))
        return timm_create("vit_tiny_patch16_224", pretrained=False, img_size=32, depth=1)

    timm_create = timm.create_model
    monkeypatch.setattr("conmim_lightning.weights.read.timm.create_model", create)
    weights = read_weights("vit_tiny_patch16_224.augreg_in21k")
    assert requested == [("vit_tiny_patch16_224.augreg_in21k", True)]
    assert "blocks.0.attn.qkv.weight" in weights.state
    assert weights.mean == [0.5, 0.5, 0.5]


def test_the_hub_is_loaded_by_timm(monkeypatch):
    def refuse(name, pretrained):
        raise OSError(f"asked for {name}")

    monkeypatch.setattr("conmim_lightning.weights.read.timm.create_model", refuse)
    with pytest.raises(ValueError, match="asked for hf-hub:timm/vit_tiny"):
        read_weights("hf-hub:timm/vit_tiny")


def test_weights_that_timm_cannot_load(monkeypatch):
    def refuse(name, pretrained):
        raise OSError("no network")

    monkeypatch.setattr("conmim_lightning.weights.read.timm.create_model", refuse)
    with pytest.raises(ValueError, match="'vit_tiny_patch16_224' are not available: no network"):
        read_weights("vit_tiny_patch16_224")


class Evil:
    def __reduce__(self):
        return os.mkdir, ("executed",)


def bad(name, tmp_path):
    path = tmp_path / name
    match name:
        case "empty_folder":
            path.mkdir()
        case "text.pth" | "text.safetensors":
            path.write_text("no weights")
        case "evil.pth":
            torch.save({"model": Evil()}, path)
        case "numbers.pth":
            torch.save({"epoch": 3, "loss": 0.1}, path)
        case "tensor.pth":
            torch.save(torch.zeros(3), path)
        case "headless.ckpt":
            torch.save({"state_dict": {"a": torch.zeros(1)}, "loops": {}}, path)
        case "broken_folder":
            path.mkdir()
            save_file(STATE, path / "model.safetensors")
            (path / "config.json").write_text("{")
    return str(path)


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("empty_folder", "holds no weights; give a folder of a run"),
        ("nowhere.pth", "do not exist; give a folder of a run"),
        ("no_such_model", "do not exist"),
        ("text.pth", "is not a readable checkpoint"),
        ("text.safetensors", "is not a readable safetensors file"),
        ("evil.pth", "is not a readable checkpoint"),
        ("numbers.pth", r"holds no weights but \['epoch', 'loss'\]"),
        ("tensor.pth", "holds no weights but a Tensor"),
        ("headless.ckpt", "a run that has no backbone"),
        ("broken_folder", "is not the configuration of a model: Expecting property"),
    ],
)
def test_bad_locations(tmp_path, monkeypatch, name, message):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ValueError, match=message):
        read_weights(bad(name, tmp_path))
    assert not (tmp_path / "executed").exists()


def test_unknown_branch():
    with pytest.raises(ValueError, match=r"branch must be one of .*, got 'both'"):
        read_weights("x", "both")


def test_a_checkpoint_is_not_only_weights(tmp_path):
    torch.save(STATE, tmp_path / "x.pth")
    with pytest.raises(ValueError, match="lacks the training state"):
        read_checkpoint(tmp_path / "x.pth")
