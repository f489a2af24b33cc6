"""How the official code draws the weights of a vision Transformer."""

import math
from typing import Any

import torch
from torch import Tensor, nn

_INIT_STD = 0.02


@torch.no_grad()
def init_backbone(backbone: Any, *, head_scale: float = 1.0) -> None:
    """Draw a timm vision Transformer's weights anew.

    official: normal of spread .02 cut at one spread, residual outputs divided by sqrt(2 * layer).

    Args:
        backbone: the model.
        head_scale: the classifier, if there is one, is multiplied with this (official: .001 for fine-tuning).
    """
    backbone.apply(init_weights)
    for name in ("cls_token", "pos_embed", "reg_token"):
        parameter = getattr(backbone, name, None)
        if isinstance(parameter, nn.Parameter):
            cut_normal_(parameter)
    for layer, block in enumerate(backbone.blocks, start=1):
        for name in ("attn.proj.weight", "mlp.fc2.weight"):
            block.get_parameter(name).div_(math.sqrt(2 * layer))
    if isinstance(getattr(backbone, "head", None), nn.Linear):
        backbone.head.weight.mul_(head_scale)


@torch.no_grad()
def draw_head(backbone: Any, scale: float) -> None:
    """Draw a classifier anew, smaller by ``scale``."""
    init_weights(backbone.head)
    backbone.head.weight.mul_(scale)


def cut_normal_(tensor: Tensor) -> None:
    """official: normal of spread .02, cut at one spread on each side (timm's default cuts at 2.0, that is, never)."""
    nn.init.trunc_normal_(tensor, std=_INIT_STD, a=-_INIT_STD, b=_INIT_STD)


def init_weights(module: nn.Module) -> None:
    """Cut normal for linear and convolution weights, zero for their biases; for ``Module.apply``."""
    if isinstance(module, nn.Linear | nn.Conv2d):
        cut_normal_(module.weight)
        if module.bias is not None:
            nn.init.zeros_(module.bias)
