"""Outputs of the official fine-tuning network and its parameter groups, reproduced by our loading and groups.

Source: tests/golden/finetune_{forward,groups}.json and finetune_forward.safetensors, measured on TencentARC/ConMIM.
"""

import json
import warnings
from functools import partial

import pytest
import torch
from conftest import GOLDEN
from safetensors.torch import load_file, save_file
from timm.layers import resize_rel_pos_bias_table
from torch.optim import AdamW

from conmim_lightning.models.backbones import vit
from conmim_lightning.optim.build import build_optimizer, lr_scheduler
from conmim_lightning.optim.param_groups import layer_decay_groups
from conmim_lightning.optim.resumable_lr import Plan
from conmim_lightning.weights import positions
from conmim_lightning.weights.positions import resize_table

EXACT = 1e-9
FORWARD = json.loads((GOLDEN / "finetune_forward.json").read_text())
GROUPS = json.loads((GOLDEN / "finetune_groups.json").read_text())


@pytest.fixture
def double():
    torch.set_default_dtype(torch.float64)
    yield
    torch.set_default_dtype(torch.float32)


@pytest.fixture(scope="module")
def tensors():
    return load_file(GOLDEN / "finetune_forward.safetensors")


@pytest.fixture(scope="module")
def weights(tmp_path_factory):
    """The official pre-training weights as a file, with their official names."""
    tensors = load_file(GOLDEN / "pretrain_steps.safetensors")
    path = tmp_path_factory.mktemp("official") / "checkpoint_copy-799.safetensors"
    start = {name.removeprefix("init."): value.double() for name, value in tensors.items() if name.startswith("init.")}
    save_file(start, path)
    return path


@pytest.mark.parametrize("size", FORWARD["image_sizes"])
def test_forward(double, tensors, weights, size):
    settings = json.loads((GOLDEN / "pretrain_steps.json").read_text())
    model = vit(
        img_size=size,
        patch_size=settings["patch_size"],
        embed_dim=settings["embed_dim"],
        depth=settings["depth"],
        num_heads=settings["num_heads"],
        init_values=settings["layer_scale_init"],
        shared_rel_pos_bias=False,
        num_classes=FORWARD["num_classes"],
        global_pool="avg",
        weights=str(weights),
    )
    for block in model.blocks:
        table = block.attn.relative_position_bias_table.detach()
        torch.testing.assert_close(table, tensors[f"table_{size}"], rtol=0, atol=1e-12)
    classifier = {name: tensors[name] for name in ("fc_norm.weight", "fc_norm.bias", "head.weight", "head.bias")}
    model.load_state_dict(classifier, strict=False)
    mean, std = (torch.tensor(settings["normalize"][key]).view(3, 1, 1) for key in ("mean", "std"))
    images = (tensors[f"images_{size}.uint8"].double() / 255 - mean) / std
    with torch.no_grad():
        tokens = model.eval().forward_features(images)
        features = model.forward_head(tokens, pre_logits=True)
        logits = model(images)
    torch.testing.assert_close(features, tensors[f"features_{size}"], rtol=EXACT, atol=EXACT)
    torch.testing.assert_close(logits, torch.tensor(FORWARD["logits"][str(size)]["logits"]), rtol=EXACT, atol=EXACT)


@pytest.mark.parametrize(
    ("title", "depth", "decay"),
    [(title, *numbers) for title, numbers in zip(GROUPS, [(12, 0.65), (24, 0.75)], strict=True)],
)
def test_every_row_of_the_groups(title, depth, decay):
    model = vit(
        img_size=32, patch_size=16, embed_dim=8, depth=depth, num_heads=2, init_values=0.1, shared_rel_pos_bias=False,
        num_classes=10, global_pool="avg",
    )  # fmt: skip
    groups = layer_decay_groups(model.named_parameters(), depth=depth, layer_decay=decay)
    optimizer = build_optimizer(
        partial(AdamW, lr=4e-3, weight_decay=0.05), groups, scaling="none", effective_batch=1, base_batch_size=1
    )
    names = {id(parameter): name for name, parameter in model.named_parameters()}
    result = {
        names[id(parameter)]: (group["lr"] / 4e-3, group["weight_decay"])
        for group in optimizer.param_groups
        for parameter in group["params"]
    }
    wanted = {name: (row["lr_scale"], row["weight_decay"]) for name, row in GROUPS[title].items()}
    assert result.keys() == wanted.keys()
    for name, row in wanted.items():
        assert result[name] == pytest.approx(row, rel=1e-12), name


def test_the_learning_rate_of_each_layer_follows_the_official_schedule():
    wanted = json.loads((GOLDEN / "schedules.json").read_text())[
        "fine-tune lr 4e-3 to 1e-6, warm-up 1 of 3 epochs x 11"
    ]
    groups = [{"params": [torch.nn.Parameter(torch.zeros(1))], "lr_scale": scale} for scale in (1.0, 0.65**13)]
    optimizer = build_optimizer(partial(AdamW, lr=4e-3), groups, scaling="none", effective_batch=1, base_batch_size=1)
    scheduler = lr_scheduler(optimizer, plan=Plan(33, 11, 8), warmup_steps=11, min_lr=1e-6)
    for rate in wanted:
        assert [group["lr"] for group in optimizer.param_groups] == pytest.approx([rate, rate * 0.65**13], rel=EXACT)
        optimizer.step()
        scheduler.step()


def test_positions_of_the_resized_table_are_timms(monkeypatch, tensors):
    """timm interpolates linearly between the same positions, so linear splines reproduce its table."""
    spline = positions.RectBivariateSpline
    monkeypatch.setattr(positions, "RectBivariateSpline", lambda x, y, z: spline(x, y, z, kx=1, ky=1))
    table = tensors["table_96"].float()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of timm's own code
        timms = resize_rel_pos_bias_table(table, (10, 10), (364, 3))
    torch.testing.assert_close(resize_table(table, (10, 10)), timms, rtol=1e-4, atol=1e-5)
