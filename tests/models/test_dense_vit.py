"""Maps of a vision Transformer: timm's own where it can make them, and properties where it cannot."""

import copy

import pytest
import torch
from conftest import beit
from timm.models.beit import Beit, gen_relative_position_index
from timm.models.eva import Eva
from timm.models.vision_transformer import VisionTransformer

from conmim_lightning.models.backbones import beit as ours
from conmim_lightning.models.dense_vit import DenseVit
from conmim_lightning.models.relative_bias import RelativeBias, relative_index, table_side
from conmim_lightning.models.windows import from_windows, to_windows
from conmim_lightning.weights.positions import resize_table

SMALL = {"img_size": 32, "patch_size": 8, "embed_dim": 16, "depth": 4, "num_heads": 2, "num_classes": 0}


def family(name: str):
    torch.manual_seed(0)
    if name == "beit":
        model = ours(**SMALL, init_values=0.5, use_abs_pos_emb=False, use_rel_pos_bias=True, global_pool="token")
    elif name == "absolute":
        model = VisionTransformer(**SMALL, global_pool="token", init_values=0.5)
    else:
        model = Eva(**SMALL, global_pool="token", use_abs_pos_emb=False, use_rot_pos_emb=True, init_values=0.5)
    for parameter in model.parameters():
        torch.nn.init.normal_(parameter, std=0.2)
    return model.eval()


@pytest.mark.parametrize("name", ["beit", "absolute", "rotary"])
def test_maps_are_timms_at_the_size_of_pretraining(name):
    model, images = family(name), torch.randn(2, 3, 32, 32)
    expected = model.forward_intermediates(images, indices=[1, 3], norm=False, intermediates_only=True)
    found = DenseVit(copy.deepcopy(model), size=32, read=[1, 3]).eval()(images)
    for one, other in zip(found, expected, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-5)


def test_maps_are_timms_at_another_size():
    model, images = family("beit"), torch.randn(2, 3, 64, 64)
    large = Beit(**(SMALL | {"img_size": 64}), use_abs_pos_emb=False, use_rel_pos_bias=True, init_values=0.5).eval()
    state = {
        name: resize_table(value, (8, 8)) if name.endswith("_table") else value
        for name, value in model.state_dict().items()
    }
    large.load_state_dict(state, strict=False)
    expected = large.forward_intermediates(images, indices=[3], norm=False, intermediates_only=True)[0]
    found = DenseVit(model, size=64, read=[3]).eval()(images)[0]
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-5)


def test_indices_are_timms():
    assert torch.equal(relative_index(5, 5, 5), gen_relative_position_index((5, 5)))


def test_a_smaller_grid_takes_part_of_the_table():
    table = torch.randn((2 * 6 - 1) ** 2 + 3, 2)
    bias = RelativeBias(class_token=False)
    whole = bias(table, 6, 6).view(2, 6, 6, 6, 6)
    torch.testing.assert_close(bias(table, 3, 4).view(2, 3, 4, 3, 4), whole[:, :3, :4, :3, :4])
    assert table_side(table) == 6


def test_a_larger_grid_takes_a_resized_table():
    table = torch.randn((2 * 4 - 1) ** 2 + 3, 2)
    bias = RelativeBias(class_token=True)
    resized = resize_table(table, (6, 6))
    torch.testing.assert_close(bias(table, 3, 6), bias(resized, 3, 6))


@pytest.mark.parametrize(("height", "width"), [(4, 4), (6, 4), (5, 7), (3, 9)])
def test_windows_and_back(height, width):
    grid = torch.randn(2, height, width, 3)
    windows = to_windows(grid, 4)
    assert torch.equal(from_windows(windows, 4, height, width), grid)
    assert torch.equal(windows.view(2, -1, 4, 4, 3)[:, 0, : min(4, height), : min(4, width)], grid[:, :4, :4])
    assert windows.abs().sum() == pytest.approx(float(grid.abs().sum()), rel=1e-5)  # the rest is zeros


@pytest.mark.parametrize("name", ["beit", "absolute", "rotary"])
def test_a_window_sees_nothing_of_the_others(name):
    model = DenseVit(family(name), size=64, read=[2], global_blocks=[3]).eval()
    images = torch.randn(1, 3, 64, 64)
    changed = images.clone()
    changed[..., :32, :32] += 1.0
    before, after = model(images)[0], model(changed)[0]
    assert not torch.allclose(before[..., :4, :4], after[..., :4, :4])
    assert torch.equal(before[..., 4:, :], after[..., 4:, :])
    assert torch.equal(before[..., :, 4:], after[..., :, 4:])
    model = DenseVit(family(name), size=64, read=[3], global_blocks=[3]).eval()
    assert not torch.allclose(model(images)[0][..., 4:, 4:], model(changed)[0][..., 4:, 4:])


@pytest.mark.parametrize("name", ["beit", "absolute", "rotary"])
def test_a_window_is_what_was_pretrained_but_for_the_class_token(name):
    """Where everything is one window, windows and global attention are one and the same."""
    images = torch.randn(2, 3, 32, 32)
    one = DenseVit(family(name), size=32, read=[3], global_blocks=[0]).eval()(images)[0]
    other = DenseVit(family(name), size=32, read=[3], global_blocks=[0, 1, 2, 3]).eval()(images)[0]
    torch.testing.assert_close(one, other)


def test_tables_of_windows_carry_over_and_others_are_resized():
    model = family("beit")
    before = [block.attn.relative_position_bias_table.detach().clone() for block in model.blocks]
    dense = DenseVit(model, size=96, read=[3], global_blocks=[1, 3])
    after = [block.attn.relative_position_bias_table for block in dense.backbone.blocks]
    assert torch.equal(before[0], after[0])
    assert torch.equal(before[2], after[2])
    assert torch.equal(resize_table(before[1], (12, 12)), after[1])


@pytest.mark.parametrize("global_blocks", [None, [1, 3]])
@pytest.mark.parametrize("name", ["beit", "absolute", "rotary"])
def test_every_parameter_has_a_gradient(name, global_blocks):
    model = DenseVit(family(name), size=64, read=[1, 3], global_blocks=global_blocks)
    sum(found.square().sum() for found in model(torch.randn(2, 3, 64, 64))).backward()
    assert not [name for name, parameter in model.named_parameters() if parameter.grad is None]


def test_checkpointing_changes_nothing():
    plain = DenseVit(family("beit"), size=64, read=[3], global_blocks=[3]).train()
    saving = copy.deepcopy(plain)
    saving.checkpointing = True
    images = torch.randn(1, 3, 64, 64)
    for model in (plain, saving):
        model(images)[0].square().sum().backward()
    for one, other in zip(plain.parameters(), saving.parameters(), strict=True):
        torch.testing.assert_close(one.grad, other.grad)


def test_images_need_not_be_square():
    model = DenseVit(family("beit"), size=64, read=[3]).eval()
    assert model(torch.randn(1, 3, 40, 96))[0].shape == (1, 16, 5, 12)
    with pytest.raises(ValueError, match=r"\(40, 50\) do not divide into patches of 8"):
        model(torch.randn(1, 3, 40, 50))


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        ({"size": 60, "read": [1]}, "multiple of the patch size 8, got 60"),
        ({"size": 64, "read": [4]}, r"0 to 3, got \[4\]"),
        ({"size": 64, "read": [3, 1]}, r"ascending .* got \[3, 1\]"),
        ({"size": 64, "read": [1], "global_blocks": [7]}, r"global_blocks must be .* got \[7\]"),
    ],
)
def test_bad_numbers(arguments, told):
    with pytest.raises(ValueError, match=told):
        DenseVit(family("beit"), **arguments)


def test_a_shared_table_is_refused():
    with pytest.raises(ValueError, match="not a shared one"):
        DenseVit(beit(), size=64, read=[1])


@pytest.mark.parametrize("name", ["beit", "rotary"])
def test_training_may_follow_inference(name):
    """What is kept for later must not be of inference mode."""
    model = DenseVit(family(name), size=64, read=[3], global_blocks=[3])
    with torch.inference_mode():
        model(torch.randn(1, 3, 96, 96))
        model(torch.randn(1, 3, 64, 64))
    model(torch.randn(1, 3, 64, 64))[0].sum().backward()


def test_indices_of_many_sizes_are_not_kept():
    bias = RelativeBias(class_token=True)
    table = torch.randn((2 * 12 - 1) ** 2 + 3, 2)
    for width in range(2, 12):
        assert bias(table, 3, width).is_contiguous()
    assert len(bias._indices) == 4


def test_a_resized_table_follows_its_own():
    bias = RelativeBias(class_token=True)
    table = torch.nn.Parameter(torch.randn((2 * 4 - 1) ** 2 + 3, 2))
    before = bias(table, 3, 6)
    with torch.no_grad():
        table.mul_(2)
    torch.testing.assert_close(bias(table, 3, 6), 2 * before)
