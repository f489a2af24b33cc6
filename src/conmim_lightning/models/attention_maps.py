"""Attention weights of a block of a timm vision Transformer."""

from typing import Any, cast

import torch
from torch import Tensor, nn

from conmim_lightning.models.backbones import Backbone


@torch.no_grad()
def attention_maps(backbone: Backbone, images: Tensor, block: int = -1) -> Tensor:
    """Return the attention weights of all heads of a block.

    Shapes: B images, H heads, T tokens with the prefix tokens.

    Args:
        backbone: timm's ``Beit``, ``VisionTransformer`` or ``Eva``, in eval mode.
        images: normalised (B, C, S, S).
        block: index of the block; negative numbers count from the last.

    Returns:
        (B, H, T, T); each row sums to 1.

    Raises:
        ValueError: the model has no such block.
    """
    blocks = cast(nn.ModuleList, backbone.blocks)
    if not -len(blocks) <= block < len(blocks):
        raise ValueError(f"layer must be from {-len(blocks)} to {len(blocks) - 1}, got {block}")
    attention: Any = blocks[block].get_submodule("attn")
    weights: list[Tensor] = []
    hook = attention.attn_drop.register_forward_hook(lambda module, given, output: weights.append(output))
    fused, attention.fused_attn = attention.fused_attn, False  # the fused product does not return its weights
    try:
        backbone.forward_features(images)
    finally:
        hook.remove()
        attention.fused_attn = fused
    return weights[0].float()
