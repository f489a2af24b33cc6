import inspect

import pytest
import torch
from conftest import conmim
from hydra.utils import instantiate
from safetensors.torch import save_file
from timm.models.beit import Beit

from conmim_lightning.models.backbones import beit, named
from conmim_lightning.models.encoder import Encoder
from conmim_lightning.weights.timm_folder import export_backbone

SMALL = {
    "img_size": 32, "patch_size": 8, "embed_dim": 16, "depth": 2, "num_heads": 2, "init_values": 0.1,
    "use_abs_pos_emb": False, "use_shared_rel_pos_bias": True, "num_classes": 0, "global_pool": "token",
}  # fmt: skip


def test_the_signature_is_timms_and_ours():
    """The check of configurations reads it."""
    names = set(inspect.signature(beit).parameters)
    assert set(inspect.signature(Beit).parameters) < names
    assert names - set(inspect.signature(Beit).parameters) == {"weights", "branch", "allow", "head_scale"}


def test_residual_outputs_are_drawn_smaller_with_depth():
    model = beit(**(SMALL | {"embed_dim": 64, "depth": 8}))
    first, last = (model.blocks[block].mlp.fc2.weight.std().item() for block in (0, 7))
    assert last / first == pytest.approx(8**-0.5, rel=0.1)
    assert model.blocks[0].attn.qkv.weight.abs().max() <= 0.02


def test_a_drawn_head_is_small():
    torch.manual_seed(0)
    plain = beit(**(SMALL | {"num_classes": 5, "global_pool": "avg"}))
    torch.manual_seed(0)
    scaled = beit(**(SMALL | {"num_classes": 5, "global_pool": "avg"}), head_scale=0.001)
    torch.testing.assert_close(scaled.head.weight, plain.head.weight * 0.001)


def test_an_encoder_keeps_the_weights_it_was_started_from(tmp_path):
    """Pre-training goes on from weights: they are not drawn anew, and a preference for near patches is not put in."""
    source = beit(**SMALL)
    save_file(source.state_dict(), tmp_path / "weights.safetensors")
    encoder = Encoder(beit(**SMALL, weights=str(tmp_path / "weights.safetensors")), locality=1.5)
    assert all(torch.equal(value, encoder.backbone.state_dict()[name]) for name, value in source.state_dict().items())
    drawn = Encoder(Beit(**SMALL), locality=1.5)
    assert drawn.backbone.rel_pos_bias.relative_position_bias_table.abs().max() > 1


def test_drawn_alike_whoever_makes_it():
    """timm's class in an encoder, or ours: the official way of drawing either way."""
    for make in (Beit, beit):
        weight = Encoder(make(**SMALL)).backbone.blocks[1].mlp.fc2.weight
        assert weight.abs().max() <= 0.02 / 2 + 1e-9


def test_any_of_timms_by_name():
    model = named(name="vit_tiny_patch16_224.augreg_in21k", img_size=32, num_classes=3)
    assert model(torch.zeros(1, 3, 32, 32)).shape == (1, 3)


def test_an_exported_folder_as_timm_names_it(tmp_path):
    source = beit(**SMALL)
    export_backbone(source, SMALL, tmp_path / "out", mean=[0.5] * 3, std=[0.5] * 3, card="")
    found = named(weights=f"local-dir:{tmp_path}/out", img_size=32, global_pool="token")
    images = torch.randn(2, 3, 32, 32)
    with torch.no_grad():
        torch.testing.assert_close(found.eval().forward_features(images), source.eval().forward_features(images))
    larger = named(weights=f"local-dir:{tmp_path}/out", img_size=48, global_pool="token")
    assert larger.rel_pos_bias.relative_position_bias_table.shape == (11 * 11 + 3, 2)


def test_neither_name_nor_weights():
    with pytest.raises(ValueError, match=r"give backbone.name= or backbone.weights="):
        named()


@pytest.mark.parametrize("name", ["no_such_model", "resnet18"])
def test_what_is_no_vision_transformer(name):
    with pytest.raises(ValueError, match=f"backbone.name='{name}'"):
        named(name=name)


def test_the_teacher_of_a_run_by_configuration(tmp_path):
    model = conmim()
    state = {f"model.{name}": value for name, value in model.state_dict().items()}
    torch.save({"state_dict": state, "loops": {}}, tmp_path / "last.ckpt")
    node = {"_target_": "conmim_lightning.models.backbones.beit", "weights": str(tmp_path / "last.ckpt")} | SMALL
    found = instantiate(node)
    images = torch.randn(2, 3, 32, 32)
    with torch.no_grad():
        tokens = found.eval().forward_features(images)
        wanted = model.teacher_encoder(images)
    torch.testing.assert_close(tokens, wanted)


def test_one_of_timms_is_exported_by_its_name(tmp_path):
    """Another width than that of the family's default; with a classifier."""
    import timm

    name = "vit_tiny_patch16_224.augreg_in21k"
    model = named(name=name, img_size=32, num_classes=3)
    node = {"name": name, "img_size": 32, "num_classes": 3, "global_pool": "avg", "in_chans": 3}
    export_backbone(model, node, tmp_path / "out", mean=[0.5] * 3, std=[0.5] * 3, card="", classes=["a", "b", "c"])
    images = torch.randn(2, 3, 32, 32)
    with torch.no_grad():
        found = timm.create_model(f"local-dir:{tmp_path}/out", pretrained=True).eval()(images)
        torch.testing.assert_close(found, model.eval()(images))
