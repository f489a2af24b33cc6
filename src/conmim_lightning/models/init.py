"""Weight initialisation of the official code."""

import math

import torch
from torch import Tensor, nn

_STD = 0.02


@torch.no_grad()
def init_backbone(backbone: nn.Module, *, head_init_scale: float = 1.0) -> None:
    """Initialise the weights of a timm vision Transformer at random.

    official: normal with standard deviation .02, truncated at one standard deviation; residual outputs divided by
    sqrt(2 * layer).

    Args:
        backbone: timm model.
        head_init_scale: factor of the classifier's weights, if it has one (official: .001 for fine-tuning).
    """
    backbone.apply(init_weights)
    for name in ("cls_token", "pos_embed", "reg_token"):
        parameter = getattr(backbone, name, None)
        if isinstance(parameter, nn.Parameter):
            trunc_normal_(parameter)
    for layer, block in enumerate(backbone.get_submodule("blocks").children(), start=1):
        for name in ("attn.proj.weight", "mlp.fc2.weight"):
            block.get_parameter(name).div_(math.sqrt(2 * layer))
    if isinstance(head := getattr(backbone, "head", None), nn.Linear):
        head.weight.mul_(head_init_scale)


@torch.no_grad()
def init_head(head: nn.Module, scale: float) -> None:
    """Re-initialise a classifier, its weights multiplied by ``scale``."""
    init_weights(head)
    head.get_parameter("weight").mul_(scale)


def trunc_normal_(tensor: Tensor) -> None:
    """Initialise; official: standard deviation .02, truncated at one standard deviation (timm's default: at 2.0)."""
    nn.init.trunc_normal_(tensor, std=_STD, a=-_STD, b=_STD)


def init_weights(module: nn.Module) -> None:
    """Initialise linear and convolution weights by ``trunc_normal_`` and their biases by zero; for ``Module.apply``."""
    if isinstance(module, nn.Linear | nn.Conv2d):
        trunc_normal_(module.weight)
        if module.bias is not None:
            nn.init.zeros_(module.bias)
