"""A stranger's checkpoint: its record is data and never names code to run."""

import copy

import pytest
import torch
from downstream_runs import configure

from conmim_lightning.evaluate import run as evaluate
from conmim_lightning.export import run as export
from conmim_lightning.inspect import run as inspect
from conmim_lightning.runtime.trust import check_record, known_targets
from conmim_lightning.visualize import run as visualize
from conmim_lightning.weights.checkpoint import read_checkpoint

GOOD = {"task": {"_target_": "conmim_lightning.tasks.pretrain.PretrainTask", "model": {"depth": 2}}, "data": {}}


def test_our_own_configurations_are_known():
    assert {"torch.optim.AdamW", "timm.data.Mixup", "conmim_lightning.models.backbones.vit"} <= known_targets()
    check_record(GOOD)


FAULTS = {
    "a function of Python": {"_target_": "pathlib.Path.write_text", "_args_": ["evil.py", "x"]},
    "through our own modules": {"_target_": "conmim_lightning.train.os.system"},
    "a function of ours that writes": {"_target_": "conmim_lightning.runtime.results.write_json"},
    "what prepares data, elsewhere": {"_target_": "conmim_lightning.data.synthetic.digits.write_digits"},
    "no name": {"_target_": ["os.system"]},
    "arguments by position": {"_target_": "conmim_lightning.models.backbones.vit", "_args_": [1]},
    "an interpolation": {"weights": "${oc.env:HOME}"},
}


@pytest.mark.parametrize("place", ["top", "nested", "list", "data", "report"])
@pytest.mark.parametrize("fault", FAULTS)
def test_whatever_else_a_record_names_is_an_error(fault, place):
    config, node = copy.deepcopy(GOOD), FAULTS[fault]
    if place == "top":
        config["task"] |= node
    elif place == "nested":
        config["task"]["model"]["backbone"] = {"a": node}
    elif place == "list":
        config["task"]["layers"] = [1, [node]]
    elif place == "data":
        config["data"]["source"] = node
    else:
        config["callbacks"] = {"x_report": node}
    with pytest.raises(ValueError, match="would run code that is not this project's"):
        check_record(config)


def test_packages_may_be_trusted():
    config = {"task": {"_target_": "mine.tasks.MyTask"}, "data": {"_target_": "minecraft.Data"}}
    with pytest.raises(ValueError, match=r"(?s)data._target_: 'minecraft.Data'.*trust=\[my_package\]") as caught:
        check_record(config, ["mine"])
    assert "MyTask" not in str(caught.value)
    check_record(config, ["mine", "minecraft"])


def test_prepare_may_name_what_creates_the_synthetic_data():
    check_record(GOOD | {"data": {"prepare": {"_target_": "conmim_lightning.data.synthetic.digits.write_digits"}}})


def planted(checkpoint, target, path):
    """A copy of a checkpoint whose record creates a file."""
    content = dict(read_checkpoint(checkpoint))
    content["run"] = copy.deepcopy(content["run"])
    content["run"]["config"]["task"]["extra"] = [{"_target_": "pathlib.Path.touch", "self": str(path)}]
    torch.save(content, target)
    return target


def test_every_command_refuses_a_planted_record(labelled_runs, dense_runs, scenes_root, tmp_path):
    folder, _ = labelled_runs
    evidence = tmp_path / "executed"
    own = f"checkpoint={planted(folder / 'finetuned', tmp_path / 'a.ckpt', evidence)}"
    dense = f"checkpoint={planted(dense_runs / 'segmentation', tmp_path / 'b.ckpt', evidence)}"
    pretrained = f"checkpoint={planted(folder / 'pretrained', tmp_path / 'c.ckpt', evidence)}"
    images = ["data=folder", f"data.root={scenes_root}/folders/val", "logger=none", "data.num_workers=0"]
    for command, cfg in (
        (evaluate, configure("evaluate", tmp_path / "e", own)),
        (visualize, configure("visualize", tmp_path / "v", dense)),
        (export, configure("export", tmp_path, own, f"output={tmp_path}/out")),
        (inspect, configure("inspect", tmp_path / "i", pretrained, *images)),
    ):
        with pytest.raises(ValueError, match=r"task.extra.0._target_: 'pathlib.Path.touch'"):
            command(cfg)
    assert not evidence.exists()
