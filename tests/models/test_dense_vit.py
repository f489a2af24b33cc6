"""Feature maps of a vision Transformer: equal to timm's where timm supports them, otherwise by their properties."""

import copy

import pytest
import torch
from conftest import beit
from timm.models.beit import Beit

from conmim_lightning.models.backbones import vit
from conmim_lightning.models.dense_vit import DenseVit
from conmim_lightning.models.relative_bias import RelativeBias
from conmim_lightning.weights.positions import resize_table

SMALL = {"img_size": 32, "patch_size": 8, "embed_dim": 16, "depth": 4, "num_heads": 2}


def family(name: str):
    torch.manual_seed(0)
    model = vit(**SMALL, init_values=0.5, positions=name, shared_rel_pos_bias=False)
    for parameter in model.parameters():
        torch.nn.init.normal_(parameter, std=0.2)
    return model.eval()


@pytest.mark.parametrize("name", ["relative", "absolute", "rotary"])
def test_maps_are_timms_at_the_size_of_pretraining(name):
    model, images = family(name), torch.randn(2, 3, 32, 32)
    expected = model.forward_intermediates(images, indices=[1, 3], norm=False, intermediates_only=True)
    maps = DenseVit(copy.deepcopy(model), size=32, out_indices=[1, 3]).eval()(images)
    for one, other in zip(maps, expected, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-5)


def test_maps_are_timms_at_another_size():
    model, images = family("relative"), torch.randn(2, 3, 64, 64)
    large = Beit(
        **(SMALL | {"img_size": 64}), num_classes=0, use_abs_pos_emb=False, use_rel_pos_bias=True, init_values=0.5
    ).eval()
    state = {
        name: resize_table(value, (8, 8)) if name.endswith("_table") else value
        for name, value in model.state_dict().items()
    }
    large.load_state_dict(state, strict=False)
    expected = large.forward_intermediates(images, indices=[3], norm=False, intermediates_only=True)[0]
    maps = DenseVit(model, size=64, out_indices=[3]).eval()(images)[0]
    torch.testing.assert_close(maps, expected, rtol=1e-4, atol=1e-5)


def test_a_larger_grid_uses_a_resized_table():
    table = torch.randn((2 * 4 - 1) ** 2 + 3, 2)
    bias = RelativeBias(class_token=True)
    resized = resize_table(table, (6, 6))
    torch.testing.assert_close(bias(table, 3, 6), bias(resized, 3, 6))


@pytest.mark.parametrize("name", ["relative", "absolute", "rotary"])
def test_windows_do_not_see_one_another(name):
    model = DenseVit(family(name), size=64, out_indices=[2], global_attn_blocks=[3]).eval()
    images = torch.randn(1, 3, 64, 64)
    changed = images.clone()
    changed[..., :32, :32] += 1.0
    before, after = model(images)[0], model(changed)[0]
    assert not torch.allclose(before[..., :4, :4], after[..., :4, :4])
    assert torch.equal(before[..., 4:, :], after[..., 4:, :])
    assert torch.equal(before[..., :, 4:], after[..., :, 4:])
    model = DenseVit(family(name), size=64, out_indices=[3], global_attn_blocks=[3]).eval()
    assert not torch.allclose(model(images)[0][..., 4:, 4:], model(changed)[0][..., 4:, 4:])


@pytest.mark.parametrize("name", ["relative", "absolute", "rotary"])
def test_a_window_is_as_pretrained_except_for_the_class_token(name):
    """If everything is one window, windows and global attention are the same."""
    images = torch.randn(2, 3, 32, 32)
    one = DenseVit(family(name), size=32, out_indices=[3], global_attn_blocks=[0]).eval()(images)[0]
    other = DenseVit(family(name), size=32, out_indices=[3], global_attn_blocks=[0, 1, 2, 3]).eval()(images)[0]
    torch.testing.assert_close(one, other)


def test_tables_of_windows_are_kept_and_others_are_resized():
    model = family("relative")
    before = [block.attn.relative_position_bias_table.detach().clone() for block in model.blocks]
    dense = DenseVit(model, size=96, out_indices=[3], global_attn_blocks=[1, 3])
    after = [block.attn.relative_position_bias_table for block in dense.backbone.blocks]
    assert torch.equal(before[0], after[0])
    assert torch.equal(before[2], after[2])
    assert torch.equal(resize_table(before[1], (12, 12)), after[1])


@pytest.mark.parametrize("global_attn_blocks", [None, [1, 3]])
@pytest.mark.parametrize("name", ["relative", "absolute", "rotary"])
def test_every_parameter_has_a_gradient(name, global_attn_blocks):
    model = DenseVit(family(name), size=64, out_indices=[1, 3], global_attn_blocks=global_attn_blocks)
    sum(feature_map.square().sum() for feature_map in model(torch.randn(2, 3, 64, 64))).backward()
    assert not [name for name, parameter in model.named_parameters() if parameter.grad is None]


def test_checkpointing_changes_nothing():
    stored = DenseVit(family("relative"), size=64, out_indices=[3], global_attn_blocks=[3]).train()
    recomputed = copy.deepcopy(stored)
    recomputed.checkpointing = True
    images = torch.randn(1, 3, 64, 64)
    for model in (stored, recomputed):
        model(images)[0].square().sum().backward()
    for one, other in zip(stored.parameters(), recomputed.parameters(), strict=True):
        torch.testing.assert_close(one.grad, other.grad)


def test_images_need_not_be_square():
    model = DenseVit(family("relative"), size=64, out_indices=[3]).eval()
    assert model(torch.randn(1, 3, 40, 96))[0].shape == (1, 16, 5, 12)
    with pytest.raises(ValueError, match=r"\(40, 50\) do not divide into patches of 8"):
        model(torch.randn(1, 3, 40, 50))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"size": 60, "out_indices": [1]}, "multiple of the patch size 8, got 60"),
        ({"size": 64, "out_indices": [4]}, r"0 to 3, got \[4\]"),
        ({"size": 64, "out_indices": [3, 1]}, r"ascending .* got \[3, 1\]"),
        ({"size": 64, "out_indices": [1], "global_attn_blocks": [7]}, r"global_attn_blocks must be .* got \[7\]"),
    ],
)
def test_bad_numbers(arguments, message):
    with pytest.raises(ValueError, match=message):
        DenseVit(family("relative"), **arguments)


def test_a_shared_table_is_rejected():
    with pytest.raises(ValueError, match="not a shared one"):
        DenseVit(beit(), size=64, out_indices=[1])


@pytest.mark.parametrize("name", ["relative", "rotary"])
def test_training_may_follow_inference(name):
    """Cached tensors must not be of inference mode."""
    model = DenseVit(family(name), size=64, out_indices=[3], global_attn_blocks=[3])
    with torch.inference_mode():
        model(torch.randn(1, 3, 96, 96))
        model(torch.randn(1, 3, 64, 64))
    model(torch.randn(1, 3, 64, 64))[0].sum().backward()
