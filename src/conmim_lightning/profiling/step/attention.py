"""Timing of the attention implementations with a learned bias, the basis of the choice in ``models.attention``."""

import statistics
from collections.abc import Callable
from typing import cast

import torch
from timm.models.beit import Attention
from torch import Tensor

from conmim_lightning.models.attention import IMPLEMENTATIONS, align_rows
from conmim_lightning.models.encoder import Encoder
from conmim_lightning.profiling.device import time_call
from conmim_lightning.runtime.results import Result

_ROUNDS, _WARMUP = 9, 3
_CALLS = {"cuda": 20}  # calls between two synchronisations; elsewhere one

Attend = Callable[[Tensor, Tensor, Tensor, Tensor], Tensor]


def attention_shape(encoder: Encoder) -> dict[str, int]:
    """Return heads, tokens and width per head of an encoder, for ``time_attention``."""
    heads = cast(Attention, encoder.backbone.blocks[0].get_submodule("attn")).num_heads
    tokens = encoder.grid_size[0] * encoder.grid_size[1] + encoder.num_prefix_tokens
    return {"heads": heads, "tokens": tokens, "width": encoder.embed_dim // heads}


def time_attention(
    device: torch.device, dtype: torch.dtype | None, *, batch_size: int, heads: int, tokens: int, width: int
) -> dict[str, Result]:
    """Time the attention implementations on random tensors.

    Args:
        device: device to run on.
        dtype: dtype of queries, keys and values; None for float32. The bias is float32, as in training.
        batch_size: images.
        heads: number of heads, H.
        tokens: number of tokens, prefix tokens included.
        width: width of a head.

    Returns:
        For each implementation, median seconds with "no_gradient" and "gradient" (forward and backward, also for the
        bias); or an "error" if the implementation does not run on this device.
    """
    dtype = dtype or torch.float32
    names = [name for name in IMPLEMENTATIONS if name != "flex" or device.type == "cuda"]
    inputs = [torch.randn(batch_size, heads, tokens, width, device=device, dtype=dtype) for _ in range(3)]
    bias = torch.randn(heads, tokens, tokens, device=device)
    results: dict[str, Result] = {}
    for name in names:
        prepared = align_rows(bias.to(dtype)) if name == "sdpa" else bias
        try:
            results[name] = _time(IMPLEMENTATIONS[name], [*inputs, prepared], device)
        except Exception as error:  # torch raises many types for a missing kernel
            results[name] = {"error": f"{type(error).__name__}: {error}".splitlines()[0]}
    if device.type == "cuda":
        torch.cuda.empty_cache()
    return results


def _time(attend: Attend, inputs: list[Tensor], device: torch.device) -> dict[str, float]:
    trained = [tensor.detach().requires_grad_() for tensor in inputs]  # a clone would lose the rows' alignment
    gradient = torch.randn_like(inputs[0])

    def forward() -> None:
        with torch.no_grad():
            attend(*inputs)

    def forward_and_backward() -> None:
        for tensor in trained:
            tensor.grad = None
        attend(*trained).backward(gradient)

    calls = {"no_gradient": forward, "gradient": forward_and_backward}
    return {name: _median_seconds(call, device) for name, call in calls.items()}


def _median_seconds(call: Callable[[], None], device: torch.device) -> float:
    """Return the median seconds per call; on a GPU, calls are launched in a row, as in training."""
    calls = _CALLS.get(device.type, 1)
    durations = [time_call(lambda: [call() for _ in range(calls)], device) / calls for _ in range(_WARMUP + _ROUNDS)]
    return statistics.median(durations[_WARMUP:])
