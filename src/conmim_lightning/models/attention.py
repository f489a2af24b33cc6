"""Which way timm's attention takes, by device, and the bias that the fused kernels take without a copy.

Measured (``RESULTS.md``, "Speed of the step"): on CPUs, torch's fused attention has no kernel that gives the bias a
gradient; it falls back on a path in float32 that takes twice the time of the plain operations under bfloat16. On GPUs
torch's fused kernels take the bias in the dtype of the queries, the one for training if its rows begin at multiples of
8 entries; else torch copies it in every block. That is what torch's sources say and has not been measured; on the
device at hand ``benchmark.stages=[attention]`` does it, for FlexAttention too, which training does not offer.
"""

from collections.abc import Iterable
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

_ALIGNED = 8  # entries


def choose_attention(blocks: Iterable[Any], device: torch.device) -> None:
    """Let blocks with an additive bias use ``scaled_dot_product_attention``, or write their attention out on a CPU."""
    fused = device.type != "cpu"
    for block in blocks:
        if block.attn.fused_attn != fused:
            block.attn.fused_attn = fused


def ready_bias(bias: Tensor) -> Tensor:
    """The bias as the chosen way takes it, made once a forward for all blocks.

    Args:
        bias: (1, heads, T, T) float32.

    Returns:
        The same on a CPU; elsewhere in autocast's dtype, each row at a multiple of 8 entries.
    """
    if bias.device.type == "cpu":
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
