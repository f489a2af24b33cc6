"""Which way timm's attention takes, and the bias as that way takes it, made once a forward.

Measured (``RESULTS.md``, "Speed of the step"): on CPUs, torch's fused attention has no kernel that gives the bias a
gradient; it falls back on a path in float32 that takes twice the time of the plain operations under bfloat16. On GPUs
torch's fused kernels take the bias in the dtype of the queries, the one for training if its rows begin at multiples of
8 entries; else torch copies it in every block. That is what torch's sources say and has not been measured; on the
device at hand ``benchmark.stages=[attention]`` does it, for FlexAttention too.
"""

from collections.abc import Iterable
from functools import cache
from typing import Any, Literal, get_args

import torch
import torch.nn.functional as F
from timm.models.beit import Attention
from torch import Tensor

Way = Literal["auto", "written", "fused", "flex"]
"""How attention is computed: written out; by ``scaled_dot_product_attention``; by FlexAttention, on a CPU as "auto".
"auto" writes it out on a CPU and takes the fused one on other devices."""

_ALIGNED = 8  # entries


class FlexAttention(Attention):
    """timm's attention, its parameters and names, through torch's FlexAttention.

    Shapes: B images, T tokens, D width.
    """

    def forward(self, x: Tensor, shared_rel_pos_bias: Tensor | None = None) -> Tensor:
        """(B, T, D) tokens and a (1, heads, T, T) bias -> (B, T, D)."""
        assert shared_rel_pos_bias is not None
        biases = (self.q_bias, self.k_bias, self.v_bias)  # all or none
        added = torch.cat([bias for bias in biases if bias is not None]) if self.q_bias is not None else None
        heads = F.linear(x, self.qkv.weight, added).unflatten(2, (3, self.num_heads, -1))
        query, key, value = heads.permute(2, 0, 3, 1, 4)  # each (B, H, T, D / H)
        return self.proj(flexible(query, key, value, shared_rel_pos_bias).transpose(1, 2).flatten(2))


def flexible(query: Tensor, key: Tensor, value: Tensor, bias: Tensor) -> Tensor:
    """FlexAttention of (B, H, T, d) with a (1, H, T, T) bias; compiled on GPUs."""
    from torch.nn.attention.flex_attention import flex_attention

    table = bias[0]

    def add(score: Tensor, batch: Tensor, head: Tensor, row: Tensor, column: Tensor) -> Tensor:
        return score + table[head, row, column]

    attend = flex_attention if torch.compiler.is_compiling() or query.device.type == "cpu" else _compiled_flex()
    found = attend(query, key, value, score_mod=add)
    assert isinstance(found, Tensor)
    return found


@cache
def _compiled_flex() -> Any:
    from torch.nn.attention.flex_attention import flex_attention

    return torch.compile(flex_attention)


def choose_attention(blocks: Iterable[Any], device: torch.device, way: Way = "auto") -> None:
    """Let blocks with an additive bias attend in a way."""
    chosen = _chosen(device, way)
    kind, fused = FlexAttention if chosen == "flex" else Attention, chosen == "fused"
    for block in blocks:
        if type(block.attn) is not kind:
            block.attn.__class__ = kind
        if block.attn.fused_attn != fused:
            block.attn.fused_attn = fused


def _chosen(device: torch.device, way: Way) -> Way:
    if way == "auto" or (way == "flex" and device.type == "cpu"):
        return "written" if device.type == "cpu" else "fused"
    return way


def check_attention(backbone: Any, way: Way) -> None:
    """Raise ValueError for a way that does not exist or that a timm backbone cannot take."""
    if way not in get_args(Way):
        raise ValueError(f"attention must be one of {', '.join(get_args(Way))}, got {way!r}")
    if way == "auto":
        return
    if getattr(backbone, "rel_pos_bias", None) is None:
        raise ValueError(f"attention must be 'auto' without a shared table of relative positions, got {way!r}")
    if way == "flex" and any(block.attn.attn_drop.p or block.attn.proj_drop.p for block in backbone.blocks):
        raise ValueError("attention='flex' has no dropout; give the backbone attn_drop_rate=0 and proj_drop_rate=0")


def ready_bias(bias: Tensor, way: Way = "auto") -> Tensor:
    """The bias as the chosen way takes it, made once a forward for all blocks.

    Args:
        bias: (1, heads, T, T) float32.
        way: how attention is computed.

    Returns:
        For the fused one in autocast's dtype, each row at a multiple of 8 entries; else the same.
    """
    if _chosen(bias.device, way) != "fused":
        compiled = torch.compiler.is_compiling() and not torch.compiler.is_exporting()
        return _kept(bias) if compiled else bias
    if torch.is_autocast_enabled(bias.device.type):
        bias = bias.to(torch.get_autocast_dtype(bias.device.type))
    return aligned(bias)


def aligned(bias: Tensor) -> Tensor:
    """The bias (1, heads, T, T), each row at a multiple of 8 entries."""
    tokens = bias.shape[-1]
    return F.pad(bias, (0, -tokens % _ALIGNED))[..., :tokens]


@torch.library.custom_op("conmim_lightning::kept", mutates_args=())
def _kept(tensor: Tensor) -> Tensor:
    """A copy that the compiler must have in memory; it would gather the bias from its table in each block anew."""
    return tensor.clone()


@_kept.register_fake
def _(tensor: Tensor) -> Tensor:
    return torch.empty_like(tensor)


def _pass_on(context: Any, gradient: Tensor) -> Tensor:
    return gradient


_kept.register_autograd(_pass_on)
