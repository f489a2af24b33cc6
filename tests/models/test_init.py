import pytest
import torch

from conmim_lightning.models.backbones import vit
from conmim_lightning.models.init import init_head

SMALL = {"img_size": 32, "patch_size": 8, "depth": 2, "num_heads": 2}


def test_residual_outputs_are_smaller_with_depth():
    model = vit(**(SMALL | {"embed_dim": 64, "depth": 8}))
    first, last = (model.blocks[block].mlp.fc2.weight.std().item() for block in (0, 7))
    assert last / first == pytest.approx(8**-0.5, rel=0.1)
    assert model.blocks[0].attn.qkv.weight.abs().max() <= 0.02


def test_a_randomly_initialised_head_is_scaled():
    heads = []
    for scale in ({}, {"head_init_scale": 0.001}):
        torch.manual_seed(0)
        heads.append(vit(**SMALL, embed_dim=16, num_classes=5, global_pool="avg", **scale).head.weight)
    torch.testing.assert_close(heads[1], heads[0] * 0.001)


def test_a_head_is_re_initialised():
    head = torch.nn.Linear(4, 3)
    before = head.weight.clone()
    init_head(head, 0.5)
    assert 0 < head.weight.abs().max() <= 0.01
    assert head.bias.abs().max() == 0
    assert not torch.equal(head.weight, before)
