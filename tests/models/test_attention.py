import copy

import pytest
import torch
from conftest import beit, conmim
from pretraining import fit, make_batches, make_task
from timm.models.beit import Attention

from conmim_lightning.models.attention import FlexAttention, choose_attention, ready_bias
from conmim_lightning.models.encoder import Encoder

CPU, GPU = torch.device("cpu"), torch.device("cuda")


@pytest.mark.parametrize(
    ("device", "way", "fused", "kind"),
    [
        (CPU, "auto", False, Attention),
        (GPU, "auto", True, Attention),
        (CPU, "fused", True, Attention),
        (GPU, "written", False, Attention),
        (GPU, "flex", False, FlexAttention),
        (CPU, "flex", False, Attention),
    ],
)
def test_what_is_chosen(device, way, fused, kind):
    blocks = beit().blocks
    names = list(blocks.state_dict())
    choose_attention(blocks, device, way)
    assert [(type(block.attn), block.attn.fused_attn) for block in blocks] == [(kind, fused)] * len(blocks)
    assert list(blocks.state_dict()) == names
    choose_attention(blocks, CPU)
    assert [(type(block.attn), block.attn.fused_attn) for block in blocks] == [(Attention, False)] * len(blocks)


@pytest.mark.filterwarnings("ignore:flex_attention called without torch.compile")
@torch.no_grad()
def test_flex_attention_is_timms():
    """Its forward, on the CPU, where it is not compiled; gradients are for GPUs, see test_gpu.py."""
    attention = beit(embed_dim=32, num_heads=2).blocks[0].attn
    for parameter in attention.parameters():
        torch.nn.init.normal_(parameter, std=0.2)
    tokens, bias = torch.randn(3, 17, 32), torch.randn(1, 2, 17, 17)
    expected = attention(tokens, bias)
    attention.__class__ = FlexAttention
    torch.testing.assert_close(attention(tokens, bias), expected)
    assert (attention(tokens, 0 * bias) - expected).abs().max() > 0.01, "the bias counts"


def test_the_bias_of_the_fused_way_has_aligned_rows():
    bias = torch.randn(1, 2, 17, 17)
    assert ready_bias(bias) is bias
    ready = ready_bias(bias, "fused")
    assert ready.stride() == (2 * 17 * 24, 17 * 24, 24, 1)
    assert torch.equal(ready, bias)
    with torch.autocast("cpu", torch.bfloat16):
        assert ready_bias(bias, "fused").dtype is torch.bfloat16


def test_what_does_not_exist_or_fit_is_refused():
    with pytest.raises(ValueError, match="one of auto, written, fused, flex, got 'fast'"):
        Encoder(beit(), attention="fast")
    with pytest.raises(ValueError, match="'auto' without a shared table"):
        Encoder(beit(use_shared_rel_pos_bias=False, use_rel_pos_bias=True), attention="fused")
    with pytest.raises(ValueError, match="attn_drop_rate=0"):
        Encoder(beit(attn_drop_rate=0.1), attention="flex")
    with pytest.raises(ValueError, match="trains on a GPU only"):
        fit(make_task(model=conmim(attention="flex")), make_batches())


def test_both_branches_take_the_way_and_copies_keep_it():
    model = copy.deepcopy(conmim(attention="fused"))
    assert model.student.encoder.attention == model.teacher_encoder.attention == "fused"
