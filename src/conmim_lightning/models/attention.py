"""Attention with an additive position bias, in three equivalent implementations.

Measured (``RESULTS.md``, "Speed of the step"): on CPUs, torch's ``scaled_dot_product_attention`` has no kernel that
gives the bias a gradient and falls back to float32, which takes twice the time of the plain operations under bfloat16.
On GPUs its fused kernels need the bias in the dtype of the queries; the training kernel also needs rows that start at
multiples of 8 entries, else torch copies the bias in every block. This follows from torch's source code and was not
measured; ``benchmark.stages=[attention]`` measures it on your device, FlexAttention included.
"""

from collections.abc import Callable
from functools import cache
from typing import Literal, get_args

import torch
import torch.nn.functional as F
from timm.models.beit import Attention, Beit
from torch import Tensor, nn

Implementation = Literal["auto", "eager", "sdpa", "flex"]
"""How attention is computed: plain operations; ``scaled_dot_product_attention``; FlexAttention, on a GPU only. "auto"
is eager on a CPU and sdpa elsewhere."""

_ALIGNMENT = 8  # entries of a row


def eager(query: Tensor, key: Tensor, value: Tensor, bias: Tensor | None, dropout: float = 0.0) -> Tensor:
    """Compute attention by plain operations; query, key, value and result are (B, H, T, d), the bias is (H, T, T)."""
    logits = (query * query.shape[-1] ** -0.5) @ key.transpose(-2, -1)
    if bias is not None:
        logits = logits + bias
    weights = F.dropout(logits.softmax(-1), dropout, training=dropout > 0)
    return weights.to(value.dtype) @ value


def sdpa(query: Tensor, key: Tensor, value: Tensor, bias: Tensor | None, dropout: float = 0.0) -> Tensor:
    """Compute attention by torch's ``scaled_dot_product_attention``; shapes as for ``eager``."""
    mask = None if bias is None else bias.to(query.dtype)
    return F.scaled_dot_product_attention(query, key, value, attn_mask=mask, dropout_p=dropout)


def flex(query: Tensor, key: Tensor, value: Tensor, bias: Tensor | None, dropout: float = 0.0) -> Tensor:
    """Compute FlexAttention, compiled on GPUs; shapes as for ``eager``; it needs a bias and has no dropout."""
    from torch.nn.attention.flex_attention import flex_attention

    assert bias is not None
    assert not dropout

    def add_bias(score: Tensor, batch: Tensor, head: Tensor, row: Tensor, column: Tensor) -> Tensor:
        return score + bias[head, row, column]

    compiles = torch.compiler.is_compiling() or query.device.type == "cpu"
    attend = flex_attention if compiles else _compiled_flex_attention()
    result = attend(query, key, value, score_mod=add_bias)
    assert isinstance(result, Tensor)
    return result


@cache
def _compiled_flex_attention() -> Callable[..., object]:
    from torch.nn.attention.flex_attention import flex_attention

    return torch.compile(flex_attention)


IMPLEMENTATIONS = {"eager": eager, "sdpa": sdpa, "flex": flex}


def resolve_implementation(implementation: Implementation, device: torch.device) -> Literal["eager", "sdpa", "flex"]:
    """Return the implementation to use on a device; "auto", and "flex" on a CPU, become eager on CPUs, else sdpa."""
    if implementation == "auto" or (implementation == "flex" and device.type == "cpu"):
        return "eager" if device.type == "cpu" else "sdpa"
    return implementation


def check_implementation(backbone: nn.Module, implementation: Implementation) -> None:
    """Raise ValueError for an unknown implementation, or one that a timm backbone cannot use."""
    if implementation not in get_args(Implementation):
        raise ValueError(
            f"attn_implementation must be one of {', '.join(get_args(Implementation))}, got {implementation!r}"
        )
    if implementation != "auto" and (not isinstance(backbone, Beit) or backbone.rel_pos_bias is None):
        raise ValueError(
            f"attn_implementation must be 'auto' without a shared table of relative positions, got {implementation!r}"
        )
    dropouts = [module.p for module in backbone.modules() if isinstance(module, nn.Dropout)]
    if implementation == "flex" and any(dropouts):
        raise ValueError("attn_implementation='flex' has no dropout; the backbone needs dropout rates of 0")


def beit_attention(
    attention: Attention, tokens: Tensor, bias: Tensor | None, implementation: Implementation = "auto"
) -> Tensor:
    """Apply timm's BEiT attention with a given bias, using timm's module and parameters.

    Args:
        attention: attention module of a block of timm's ``Beit``.
        tokens: (B, T, D).
        bias: (H, T, T), see ``prepare_bias``; None for no bias.
        implementation: see ``Implementation``.

    Returns:
        (B, T, D).
    """
    qkv_bias = None
    if attention.q_bias is not None and attention.k_bias is not None and attention.v_bias is not None:
        qkv_bias = torch.cat((attention.q_bias, attention.k_bias, attention.v_bias))
    qkv = F.linear(tokens, attention.qkv.weight, qkv_bias)
    query, key, value = qkv.unflatten(2, (3, attention.num_heads, -1)).permute(2, 0, 3, 1, 4)  # each (B, H, T, d)
    dropout = attention.attn_drop.p if attention.training else 0.0
    attend = IMPLEMENTATIONS[resolve_implementation(implementation, tokens.device)]
    result = attend(query, key, value, bias, dropout)
    return attention.proj_drop(attention.proj(result.transpose(1, 2).flatten(2)))


def layer_scaled(block: nn.Module, index: Literal[1, 2], values: Tensor) -> Tensor:
    """Apply a block's first or second layer scale, which timm's families store in two forms."""
    if hasattr(block, f"ls{index}"):
        return block.get_submodule(f"ls{index}")(values)
    gamma = getattr(block, f"gamma_{index}")
    return values if gamma is None else gamma * values


def run_block(block: nn.Module, tokens: Tensor, attend: Callable[[nn.Module, Tensor], Tensor]) -> Tensor:
    """Run a pre-norm block of timm's vision Transformers with a given attention function.

    Args:
        block: block of timm's ``Beit``, ``VisionTransformer`` or ``Eva``, without extra modules.
        tokens: (B, T, D).
        attend: function of the block's attention module and its normalised input.

    Returns:
        (B, T, D).
    """
    norm1, norm2, drop1, drop2, mlp = (
        block.get_submodule(name) for name in ("norm1", "norm2", "drop_path1", "drop_path2", "mlp")
    )
    tokens = tokens + drop1(layer_scaled(block, 1, attend(block.get_submodule("attn"), norm1(tokens))))
    return tokens + drop2(layer_scaled(block, 2, mlp(norm2(tokens))))


def prepare_bias(bias: Tensor, implementation: Implementation = "auto") -> Tensor:
    """Convert the bias for an implementation, once per forward pass for all blocks.

    Args:
        bias: (heads, T, T) float32.
        implementation: see ``Implementation``.

    Returns:
        For sdpa, the bias in autocast's dtype with rows at multiples of 8 entries; otherwise the bias itself.
    """
    if resolve_implementation(implementation, bias.device) != "sdpa":
        compiled = torch.compiler.is_compiling() and not torch.compiler.is_exporting()
        return _materialize(bias) if compiled else bias
    if torch.is_autocast_enabled(bias.device.type):
        bias = bias.to(torch.get_autocast_dtype(bias.device.type))
    return align_rows(bias)


def align_rows(bias: Tensor) -> Tensor:
    """Return the (heads, T, T) bias with rows that start at multiples of 8 entries."""
    tokens = bias.shape[-1]
    return F.pad(bias, (0, -tokens % _ALIGNMENT))[..., :tokens]


@torch.library.custom_op("conmim_lightning::materialize", mutates_args=())
def _materialize(tensor: Tensor) -> Tensor:
    """Copy a tensor to keep it in memory; else the compiler would gather the bias from its table in every block."""
    return tensor.clone()


@_materialize.register_fake
def _(tensor: Tensor) -> Tensor:
    return torch.empty_like(tensor)


def _identity_gradient(context: object, gradient: Tensor) -> Tensor:
    return gradient


_materialize.register_autograd(_identity_gradient)
