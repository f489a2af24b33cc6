"""Cases that the official list in tests/integration/test_golden_finetune.py does not cover."""

from functools import partial

import torch
from conftest import beit
from timm.models.vision_transformer import VisionTransformer

from conmim_lightning.models.encoder import Encoder
from conmim_lightning.models.segmentation_heads import UperHead
from conmim_lightning.models.segmenter import Segmenter
from conmim_lightning.optim.param_groups import decay_groups, dense_groups, has_decay


def test_positions_and_registers_do_not_decay():
    parameters = dict(Encoder(beit(use_abs_pos_emb=True, use_shared_rel_pos_bias=False)).named_parameters())
    assert not has_decay("backbone.pos_embed", parameters["backbone.pos_embed"])
    assert not has_decay("backbone.reg_token", torch.nn.Parameter(torch.zeros(1, 2, 3)))
    assert has_decay("mask_token", parameters["mask_token"])


def test_groups_hold_every_trained_parameter_once():
    encoder = Encoder(beit())
    encoder.mask_token.requires_grad_(False)
    groups = decay_groups(encoder.named_parameters())
    grouped = [id(parameter) for group in groups for parameter in group["params"]]
    assert sorted(grouped) == sorted(id(p) for p in encoder.parameters() if p.requires_grad)
    assert [group.get("weight_decay") for group in groups] == [None, 0.0]


def test_dense_learning_rates_fall_from_the_heads_to_the_embeddings():
    """The heads have the full learning rate; positions that the dense model copies count as embeddings."""
    torch.manual_seed(0)
    backbone = VisionTransformer(
        img_size=32, patch_size=8, embed_dim=16, depth=4, num_heads=2, num_classes=0, global_pool="token"
    )
    model = Segmenter(
        backbone=backbone, num_classes=3, size=48, out_indices=[0, 1, 2, 3], head=partial(UperHead, channels=8)
    )
    groups = dense_groups(model, backbone, layer_decay=0.5, no_weight_decay=["qkv.weight"])
    result = {}
    for group in groups:
        for parameter in group["params"]:
            result[id(parameter)] = (group["lr_scale"], "weight_decay" not in group)
    named = dict(model.named_parameters())
    assert len(result) == len(named)
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
    assert {name: result[id(named[name])] for name in expected} == expected
