import inspect
from pathlib import Path

import pytest
import timm
import torch
from conftest import conmim
from hydra.utils import instantiate
from safetensors.torch import save_file
from timm.models.beit import Beit
from timm.models.eva import Eva
from timm.models.vision_transformer import VisionTransformer

from conmim_lightning.models.backbones import info_of, timm_vit, vit, vit_base, vit_large, vit_small
from conmim_lightning.models.encoder import Encoder
from conmim_lightning.weights.export_timm import TimmFolder
from conmim_lightning.weights.exported import ExportedModel

SMALL = {"img_size": 32, "patch_size": 8, "embed_dim": 16, "depth": 2, "num_heads": 2}
TIMM = SMALL | {
    "init_values": 0.1, "use_abs_pos_emb": False, "use_shared_rel_pos_bias": True, "num_classes": 0,
    "global_pool": "token",
}  # fmt: skip


def export(backbone, output: Path, classes=()):
    info = info_of(backbone)
    mean = std = [0.5] * 3
    TimmFolder().write(
        ExportedModel(backbone, info.architecture, info.arguments, mean, std, 1.0, list(classes), True, ""), output
    )


def test_every_size_and_timms_models_have_the_settings_that_their_uses_change():
    """The check of configurations reads the signatures."""
    changed = {"shared_rel_pos_bias", "drop_path_rate", "num_classes", "global_pool", "head_init_scale"}
    for factory in (vit, timm_vit):
        assert changed | {"weights", "branch", "allow_mismatch"} < set(inspect.signature(factory).parameters)


@pytest.mark.parametrize(
    ("positions", "family"), [("relative", Beit), ("absolute", VisionTransformer), ("rotary", Eva)]
)
def test_families(positions, family):
    assert type(vit(**SMALL, positions=positions)) is family
    with pytest.raises(ValueError, match="one of relative, absolute, rotary, got 'learned'"):
        vit(**SMALL, positions="learned")


def test_further_arguments_of_timms_class():
    assert len(vit(**SMALL, timm_args={"mlp_ratio": 2}).blocks[0].mlp.fc1.bias) == 32
    with pytest.raises(ValueError, match=r"do not fit timm's Beit: .*mlp_rato"):
        vit(**SMALL, timm_args={"mlp_rato": 2})


@pytest.mark.parametrize(
    ("factory", "million"),
    [(vit_small, 21.6), (vit_base, 85.8), pytest.param(vit_large, 303.4, marks=pytest.mark.slow)],
)
def test_official_sizes(factory, million):
    with torch.device("meta"):
        model = factory()
    assert sum(parameter.numel() for parameter in model.parameters()) / 1e6 == pytest.approx(million, rel=5e-3)


def test_an_encoder_keeps_the_weights_of_its_backbone(tmp_path):
    """Pre-training continues from weights: they are not re-initialised, and there is no preference for near patches."""
    source = vit(**SMALL)
    save_file(source.state_dict(), tmp_path / "weights.safetensors")
    encoder = Encoder(vit(**SMALL, weights=str(tmp_path / "weights.safetensors")), locality=1.5)
    assert all(torch.equal(value, encoder.backbone.state_dict()[name]) for name, value in source.state_dict().items())
    initialised = Encoder(Beit(**TIMM), locality=1.5)
    assert initialised.backbone.rel_pos_bias.relative_position_bias_table.abs().max() > 1


def test_the_initialisation_is_official_for_timms_class_too():
    for model in (Beit(**TIMM), vit(**SMALL)):
        weight = Encoder(model).backbone.blocks[1].mlp.fc2.weight
        assert weight.abs().max() <= 0.02 / 2 + 1e-9


def test_any_of_timms_models_by_name():
    model = timm_vit(name="vit_tiny_patch16_224.augreg_in21k", img_size=32, num_classes=3)
    assert model(torch.zeros(1, 3, 32, 32)).shape == (1, 3)


def test_an_exported_folder_by_timms_name(tmp_path):
    source = vit(**SMALL)
    export(source, tmp_path / "out")
    loaded = timm_vit(weights=f"local-dir:{tmp_path}/out", img_size=32)
    images = torch.randn(2, 3, 32, 32)
    with torch.no_grad():
        torch.testing.assert_close(loaded.eval().forward_features(images), source.eval().forward_features(images))
    larger = timm_vit(weights=f"local-dir:{tmp_path}/out", img_size=48)
    assert larger.rel_pos_bias.relative_position_bias_table.shape == (11 * 11 + 3, 2)


def test_neither_name_nor_weights():
    with pytest.raises(ValueError, match=r"backbone.name or backbone.weights is needed"):
        timm_vit()


@pytest.mark.parametrize("name", ["no_such_model", "resnet18"])
def test_names_that_are_not_vision_transformers(name):
    with pytest.raises(ValueError, match=f"backbone.name='{name}'"):
        timm_vit(name=name)


def test_the_teacher_of_a_run_by_configuration(tmp_path):
    model = conmim()
    state = {f"model.{name}": value for name, value in model.state_dict().items()}
    torch.save({"state_dict": state, "loops": {}}, tmp_path / "last.ckpt")
    node = {"_target_": "conmim_lightning.models.backbones.vit", "weights": str(tmp_path / "last.ckpt")} | SMALL
    backbone = instantiate(node)
    images = torch.randn(2, 3, 32, 32)
    with torch.no_grad():
        torch.testing.assert_close(backbone.eval().forward_features(images), model.teacher_encoder(images))


def test_one_of_timms_models_is_exported_by_its_name(tmp_path):
    """With another width than that of the family's default, and with a classifier."""
    model = timm_vit(name="vit_tiny_patch16_224.augreg_in21k", img_size=32, num_classes=3, global_pool="avg")
    export(model, tmp_path / "out", classes=["a", "b", "c"])
    images = torch.randn(2, 3, 32, 32)
    with torch.no_grad():
        scores = timm.create_model(f"local-dir:{tmp_path}/out", pretrained=True).eval()(images)
        torch.testing.assert_close(scores, model.eval()(images))
