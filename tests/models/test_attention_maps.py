import pytest
import timm
import torch
from conftest import beit
from torch import nn

from conmim_lightning.models.attention_maps import attention_maps

IMAGES = torch.randn(2, 3, 32, 32)


def test_rows_sum_to_one_and_equal_the_definition():
    backbone = beit().eval()
    for module in backbone.modules():  # so that the bias matters
        if getattr(module, "relative_position_bias_table", None) is not None:
            nn.init.normal_(module.relative_position_bias_table)
    maps = attention_maps(backbone, IMAGES, 0)
    assert maps.shape == (2, 2, 17, 17)
    torch.testing.assert_close(maps.sum(-1), torch.ones(2, 2, 17))
    with torch.no_grad():
        patches = backbone.patch_embed(IMAGES)
        tokens = torch.cat([backbone.cls_token.expand(2, -1, -1), patches], 1)
        block = backbone.blocks[0]
        qkv = nn.functional.linear(block.norm1(tokens), block.attn.qkv.weight)
        bias = torch.cat([block.attn.q_bias, block.attn.k_bias, block.attn.v_bias])
        query, key, _ = (qkv + bias).view(2, 17, 3, 2, 8).permute(2, 0, 3, 1, 4)
        scores = query @ key.transpose(-1, -2) / 8**0.5 + backbone.rel_pos_bias()
    torch.testing.assert_close(maps, scores.softmax(-1))


@pytest.mark.parametrize("name", ["vit_tiny_patch16_224", "eva02_tiny_patch14_224"])
def test_other_families_and_the_model_stays_as_it_was(name):
    backbone = timm.create_model(name, img_size=56, depth=2, num_classes=0).eval()
    images = torch.randn(1, 3, 56, 56)
    with torch.no_grad():
        before = backbone.forward_features(images)
        maps = attention_maps(backbone, images)
        assert torch.equal(backbone.forward_features(images), before)
    torch.testing.assert_close(maps.sum(-1), torch.ones(maps.shape[:3]))
    assert backbone.blocks[-1].attn.fused_attn == backbone.blocks[0].attn.fused_attn


def test_a_missing_layer():
    with pytest.raises(ValueError, match="layer must be from -2 to 1, got 2"):
        attention_maps(beit(), IMAGES, 2)
