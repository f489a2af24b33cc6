"""The official list is in test_golden.py; here what it does not hold."""

from functools import partial

import torch
from conftest import beit
from timm.models.vision_transformer import VisionTransformer

from conmim_lightning.models.encoder import Encoder
from conmim_lightning.models.segmentation_heads import UperHead
from conmim_lightning.models.segmenter import Segmenter
from conmim_lightning.optim.param_groups import decay_groups, decays, dense_groups


def test_positions_and_registers_do_not_decay():
    parameters = dict(Encoder(beit(use_abs_pos_emb=True, use_shared_rel_pos_bias=False)).named_parameters())
    assert not decays("backbone.pos_embed", parameters["backbone.pos_embed"])
    assert not decays("backbone.reg_token", torch.nn.Parameter(torch.zeros(1, 2, 3)))
    assert decays("mask_token", parameters["mask_token"])


def test_groups_hold_every_trained_parameter_once():
    encoder = Encoder(beit())
    encoder.mask_token.requires_grad_(False)
    groups = decay_groups(encoder.named_parameters())
    grouped = [id(parameter) for group in groups for parameter in group["params"]]
    assert sorted(grouped) == sorted(id(p) for p in encoder.parameters() if p.requires_grad)
    assert [group.get("weight_decay") for group in groups] == [None, 0.0]


def test_dense_groups_fall_from_the_heads_to_the_embeddings():
    """Whatever is put on the backbone learns at the full rate; positions that were taken over count as embeddings."""
    torch.manual_seed(0)
    backbone = VisionTransformer(
        img_size=32, patch_size=8, embed_dim=16, depth=4, num_heads=2, num_classes=0, global_pool="token"
    )
    model = Segmenter(backbone=backbone, num_classes=3, size=48, read=[0, 1, 2, 3], head=partial(UperHead, channels=8))
    groups = dense_groups(model, layer_decay=0.5, undecayed=["qkv.weight"])
    found = {}
    for group in groups:
        for parameter in group["params"]:
            found[id(parameter)] = (group["lr_scale"], "weight_decay" not in group)
    named = dict(model.named_parameters())
    assert len(found) == len(named)
    expected = {
        "head.fuse.0.weight": (1.0, True),
        "head.fuse.1.weight": (1.0, False),
        "auxiliary.layer.0.weight": (1.0, True),
        "head.pyramid.levels.1.weight": (1.0, True),
        "maps.backbone.blocks.3.mlp.fc1.weight": (0.5, True),
        "maps.backbone.blocks.3.mlp.fc1.bias": (0.5, False),
        "maps.backbone.blocks.0.attn.qkv.weight": (0.5**4, False),
        "maps.backbone.patch_embed.proj.weight": (0.5**5, True),
        "maps.backbone.cls_token": (0.5**5, False),
        "maps.absolute": (0.5**5, False),
        "maps.prefix_position": (0.5**5, False),
    }
    assert {name: found[id(named[name])] for name in expected} == expected
