import torch
from conftest import conmim

from conmim_lightning.weights.official import branch_from_official, from_official


def test_names():
    assert from_official("mask_token") == "encoder.mask_token"
    assert from_official("projectors.0.weight") == "projector.layers.0.weight"
    assert from_official("blocks.3.attn.qkv.weight") == "encoder.backbone.blocks.3.attn.qkv.weight"


def test_every_name_of_a_branch_has_an_official_one():
    ours = conmim().student.state_dict()
    official = {
        name.replace("encoder.backbone.", "")
        .replace("encoder.mask_token", "mask_token")
        .replace("projector.layers.", "projectors."): value
        for name, value in ours.items()
    }
    unused = {"lm_head.weight": torch.ones(1), "blocks.0.attn.relative_position_index": torch.ones(1)}
    assert branch_from_official(official | unused).keys() == ours.keys()
