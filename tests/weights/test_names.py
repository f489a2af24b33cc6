"""Each family against its own library's model with random weights, and every usual wrapper."""

import collections
import importlib
import logging
from pathlib import Path

import numpy as np
import pytest
import timm
import torch
from safetensors.torch import save_file
from timm.models.beit import Beit
from timm.models.vision_transformer import VisionTransformer

from conmim_lightning.weights.load import load_weights
from conmim_lightning.weights.names import backbone_names, fit_attention
from conmim_lightning.weights.read import read_weights

SMALL = {"img_size": 32, "patch_size": 8, "embed_dim": 32, "depth": 2, "num_heads": 2, "num_classes": 0}
HUGGING_FACE = {
    "hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2, "image_size": 32, "patch_size": 8,
}  # fmt: skip
IMAGES = torch.rand(2, 3, 32, 32, generator=torch.Generator().manual_seed(0))


def vit(**changes) -> VisionTransformer:
    return VisionTransformer(**(SMALL | changes)).eval()


def beit(**changes) -> Beit:
    shared = {"use_abs_pos_emb": False, "use_shared_rel_pos_bias": True, "init_values": 0.1}
    return Beit(**(SMALL | shared | changes)).eval()


def randomized(model: torch.nn.Module) -> torch.nn.Module:
    """No parameter keeps an initial value that would hide a mistake, such as zero."""
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.1 * torch.randn(parameter.shape, generator=generator))
    return model.eval()


def loaded(path: Path, backbone: torch.nn.Module, branch: str = "teacher", **options) -> torch.Tensor:
    """Tokens of a backbone with the weights of a file or folder."""
    load_weights(backbone, read_weights(str(path), branch), **options)
    with torch.no_grad():
        return backbone.eval().forward_features(IMAGES)


@pytest.fixture(scope="module")
def transformers():
    logging.getLogger("transformers").setLevel(logging.ERROR)
    return importlib.import_module("transformers")


def hugging_face(transformers, family: str):
    """A model of transformers, and timm's model of the same architecture."""
    if family == "vit":
        config = transformers.ViTConfig(**HUGGING_FACE, intermediate_size=128, layer_norm_eps=1e-6)
        return transformers.ViTModel(config), vit()
    if family == "dinov2":
        config = transformers.Dinov2Config(**HUGGING_FACE, mlp_ratio=4)
        return transformers.Dinov2Model(config), vit(init_values=1.0)
    shared = family == "beit"
    config = transformers.BeitConfig(
        **HUGGING_FACE, intermediate_size=128, layer_norm_eps=1e-6, use_mean_pooling=False,
        use_shared_relative_position_bias=shared, use_relative_position_bias=not shared,
    )  # fmt: skip
    ours = beit(use_shared_rel_pos_bias=shared, use_rel_pos_bias=not shared, global_pool="token")
    return transformers.BeitModel(config), ours


@pytest.mark.parametrize("family", ["vit", "dinov2", "beit", "beit per block"])
@pytest.mark.parametrize("stored", [False, True], ids=["in memory", "as saved"])
def test_hugging_face(transformers, tmp_path, family, stored):
    """The names in memory, and those that ``save_pretrained`` writes."""
    theirs, ours = hugging_face(transformers, family)
    theirs = randomized(theirs)
    if stored:
        theirs.save_pretrained(tmp_path / "set")
    else:
        save_file(dict(theirs.state_dict()), tmp_path / "set.safetensors")
    tokens = loaded(tmp_path / ("set" if stored else "set.safetensors"), ours)
    with torch.no_grad():
        expected = theirs(IMAGES).last_hidden_state
    torch.testing.assert_close(tokens, expected, atol=1e-5, rtol=1e-5)


def test_a_classifier_of_hugging_face(transformers, tmp_path):
    config = transformers.BeitConfig(
        **HUGGING_FACE, intermediate_size=128, layer_norm_eps=1e-6, use_relative_position_bias=True, num_labels=5
    )
    theirs = randomized(transformers.BeitForImageClassification(config))
    theirs.save_pretrained(tmp_path / "set")
    ours = beit(use_shared_rel_pos_bias=False, use_rel_pos_bias=True, num_classes=5, global_pool="avg")
    load_weights(ours, read_weights(str(tmp_path / "set")))
    with torch.no_grad():
        torch.testing.assert_close(ours.eval()(IMAGES), theirs(IMAGES).logits, atol=1e-5, rtol=1e-5)


def named(state, prefix: str) -> dict[str, torch.Tensor]:
    return {prefix + name: value for name, value in state.items()}


WRAPPED = {
    "MAE": lambda s: {"model": s | {"mask_token": torch.ones(1), "decoder_embed.weight": torch.ones(2, 2)}},
    "DINO": lambda s: {"student": named({k: v + 1 for k, v in s.items()}, "module.backbone."),
                       "teacher": named(s, "module.backbone.") | {"module.head.last.weight": torch.ones(2)}},
    "iBOT": lambda s: {"state_dict": named(s, "backbone.") | {"head.mlp.0.weight": torch.ones(2)}},
    "I-JEPA": lambda s: {"encoder": named({k: v + 1 for k, v in s.items()}, "module."),
                         "predictor": {"x": torch.ones(1)}, "target_encoder": named(s, "module.")},
    "timm's average": lambda s: {"state_dict": {k: v + 1 for k, v in s.items()}, "state_dict_ema": s},
    "average beside a model": lambda s: {"model": {k: v + 1 for k, v in s.items()}, "model_ema": s},
    "model_state_dict": lambda s: {"model_state_dict": named(s, "_orig_mod.module.")},
    "net": lambda s: {"net": named(s, "module._orig_mod.")},
    "Lightning": lambda s: {"state_dict": named(s, "teacher.backbone.") | named(
        {k: v + 1 for k, v in s.items()}, "student.backbone.") | {"queue": torch.ones(3)}},
    "encoder": lambda s: named(s, "model.encoder."),
    "half": lambda s: {"model": {k: v.bfloat16().float().bfloat16() for k, v in s.items()}},
}  # fmt: skip


@pytest.mark.parametrize("family", WRAPPED)
def test_wrappers_of_other_projects(tmp_path, family):
    model = randomized(vit())
    if family == "half":
        model = model.bfloat16().float()
    content = WRAPPED[family](dict(model.state_dict()))
    torch.save(
        content
        | {"epoch": np.int64(3), "loss": np.float64(0.5), "path": Path("/x")}
        | {"log": collections.defaultdict(list, a=[1.0])}
        if family != "encoder"
        else content,
        tmp_path / "x.pth",
    )
    with torch.no_grad():
        assert torch.equal(loaded(tmp_path / "x.pth", vit()), model.forward_features(IMAGES))


def test_the_student_of_other_projects(tmp_path):
    model = randomized(vit())
    state = dict(model.state_dict())
    other = {name: value + 1 for name, value in state.items()}
    torch.save({"teacher": named(other, "backbone."), "student": named(state, "backbone.")}, tmp_path / "a.pth")
    torch.save({"state_dict": named(other, "ema.") | named(state, "online.")}, tmp_path / "b.pth")
    with torch.no_grad():
        for name in ("a.pth", "b.pth"):
            assert torch.equal(loaded(tmp_path / name, vit(), "student"), model.forward_features(IMAGES))


def test_several_backbones_without_a_word(tmp_path):
    state = dict(vit().state_dict())
    torch.save({"state_dict": named(state, "first.") | named(state, "second.")}, tmp_path / "x.pth")
    with pytest.raises(ValueError, match=r"x\.pth': there are several backbones, 'first\.', 'second\.'; which is the"):
        read_weights(str(tmp_path / "x.pth"))


def test_biases_of_attention_in_both_forms(tmp_path):
    """BEiT's queries and values have biases, and its keys none."""
    ours = randomized(beit(use_abs_pos_emb=True, use_shared_rel_pos_bias=False, global_pool="token"))
    other = vit(init_values=0.1)
    torch.save(ours.state_dict(), tmp_path / "x.pth")
    with torch.no_grad():
        expected = ours.forward_features(IMAGES)
        torch.testing.assert_close(loaded(tmp_path / "x.pth", other), expected, atol=1e-5, rtol=1e-5)
        torch.save(other.state_dict(), tmp_path / "back.pth")
        again = beit(use_abs_pos_emb=True, use_shared_rel_pos_bias=False, global_pool="token")
        torch.testing.assert_close(loaded(tmp_path / "back.pth", again), expected, atol=1e-5, rtol=1e-5)


def test_a_bias_of_the_keys_is_not_dropped_in_silence():
    state = dict(randomized(vit()).state_dict())
    fitted = fit_attention(state, beit(use_abs_pos_emb=True, global_pool="token").state_dict())
    assert "blocks.0.attn.qkv.bias" in fitted


def test_names_without_an_anchor_stay():
    state = {"blocks.0.norm1.weight": torch.ones(2), "mask_token": torch.ones(2)}
    assert list(backbone_names(state, "teacher")) == ["blocks.0.norm1.weight"]


def test_timms_names_stay():
    state = timm.create_model("vit_tiny_patch16_224", pretrained=False).state_dict()
    assert list(backbone_names(state, "teacher")) == list(state)


def test_code_in_a_file_is_still_rejected(tmp_path):
    class Hostile:
        def __reduce__(self):
            return (print, ("hacked",))

    torch.save({"model": dict(vit().state_dict()), "extra": Hostile()}, tmp_path / "x.pth")
    with pytest.raises(ValueError, match=r"x\.pth' is not a readable checkpoint"):
        read_weights(str(tmp_path / "x.pth"))
