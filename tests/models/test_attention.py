import copy

import pytest
import torch
from conftest import beit, conmim
from pretraining import fit, make_batches, make_task

from conmim_lightning.models.attention import beit_attention, prepare_bias, resolve_implementation
from conmim_lightning.models.encoder import Encoder

CPU, GPU = torch.device("cpu"), torch.device("cuda")


@pytest.mark.parametrize(
    ("device", "implementation", "resolved"),
    [
        (CPU, "auto", "eager"),
        (GPU, "auto", "sdpa"),
        (CPU, "sdpa", "sdpa"),
        (GPU, "eager", "eager"),
        (GPU, "flex", "flex"),
        (CPU, "flex", "eager"),
    ],
)
def test_resolved_implementations(device, implementation, resolved):
    assert resolve_implementation(implementation, device) == resolved


@pytest.mark.filterwarnings("ignore:flex_attention called without torch.compile")
@pytest.mark.parametrize("implementation", ["eager", "sdpa", "flex"])
@torch.no_grad()
def test_every_implementation_is_timms(implementation, monkeypatch):
    """Flex only forward, and on the CPU, where it is not compiled; gradients need a GPU, see test_gpu.py."""
    monkeypatch.setattr("conmim_lightning.models.attention.resolve_implementation", lambda name, device: name)
    model = beit(embed_dim=32, num_heads=2)
    for parameter in model.parameters():
        torch.nn.init.normal_(parameter, std=0.2)
    attention, tokens, bias = model.blocks[0].attn, torch.randn(3, 17, 32), model.rel_pos_bias()
    expected = attention(tokens, bias)
    torch.testing.assert_close(beit_attention(attention, tokens, bias, implementation), expected)
    without_bias = beit_attention(attention, tokens, 0 * bias, implementation)
    assert (without_bias - expected).abs().max() > 0.01, "the bias has an effect"


def test_the_bias_of_sdpa_has_aligned_rows():
    bias = torch.randn(2, 17, 17)
    assert prepare_bias(bias) is bias
    prepared = prepare_bias(bias, "sdpa")
    assert prepared.stride() == (17 * 24, 24, 1)
    assert torch.equal(prepared, bias)
    with torch.autocast("cpu", torch.bfloat16):
        assert prepare_bias(bias, "sdpa").dtype is torch.bfloat16


def test_bad_implementations():
    with pytest.raises(ValueError, match="one of auto, eager, sdpa, flex, got 'fast'"):
        Encoder(beit(), attn_implementation="fast")
    with pytest.raises(ValueError, match="'auto' without a shared table"):
        Encoder(beit(use_shared_rel_pos_bias=False, use_rel_pos_bias=True), attn_implementation="sdpa")
    with pytest.raises(ValueError, match="dropout rates of 0"):
        Encoder(beit(attn_drop_rate=0.1), attn_implementation="flex")
    with pytest.raises(ValueError, match="trains on a GPU only"):
        fit(make_task(model=conmim(attn_implementation="flex")), make_batches())


def test_both_branches_and_copies_have_the_implementation():
    model = copy.deepcopy(conmim(attn_implementation="sdpa"))
    assert model.student.encoder.attn_implementation == model.teacher_encoder.attn_implementation == "sdpa"
