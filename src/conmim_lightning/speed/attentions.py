"""The ways to attend with a bias that is learned: what the choice in ``models.attention`` rests on."""

import statistics
from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from conmim_lightning.models.attention import aligned, flexible
from conmim_lightning.speed.device import seconds

_ROUNDS = 9
_TOGETHER = {"cuda": 20}  # calls without waiting for the device between them; elsewhere one

Attend = Callable[[Tensor, Tensor, Tensor, Tensor], Tensor]


def written_out(query: Tensor, key: Tensor, value: Tensor, bias: Tensor) -> Tensor:
    """Logits, bias, softmax, values; all (B, H, T, d), the bias (1, H, T, T)."""
    logits = (query * query.shape[-1] ** -0.5) @ key.transpose(-2, -1)
    return (logits + bias).softmax(-1).to(value.dtype) @ value


def fused(query: Tensor, key: Tensor, value: Tensor, bias: Tensor) -> Tensor:
    """Torch's ``scaled_dot_product_attention``, the bias as ``ready`` makes it once a forward."""
    return F.scaled_dot_product_attention(query, key, value, attn_mask=bias)


def ready(bias: Tensor, dtype: torch.dtype) -> Tensor:
    """The bias for ``fused``: rows at multiples of eight entries."""
    return aligned(bias.to(dtype))


def shape_of(encoder: Any) -> dict[str, int]:
    """Heads, tokens and width of the attention of an ``Encoder``, for ``attentions``."""
    heads = encoder.backbone.blocks[0].attn.num_heads
    tokens = encoder.grid_size[0] * encoder.grid_size[1] + encoder.num_prefix_tokens
    return {"heads": heads, "tokens": tokens, "width": encoder.embed_dim // heads}


def attentions(
    device: torch.device, dtype: torch.dtype | None, *, batch_size: int, heads: int, tokens: int, width: int
) -> dict[str, dict[str, Any]]:
    """Time them on random numbers.

    Args:
        device: to run on.
        dtype: of queries, keys and values; None takes float32. The bias is float32, as in training.
        batch_size: images.
        heads: H.
        tokens: T, prefix tokens included.
        width: of a head.

    Returns:
        For each way the median seconds with "no_gradient" and "gradient", forward and backward, of the bias too; or
        an "error", in words, of a way that this torch or device does not have.
    """
    dtype = dtype or torch.float32
    ways: dict[str, Attend] = {"written out": written_out, "scaled_dot_product_attention": fused}
    if device.type == "cuda":
        ways["FlexAttention"] = flexible
    inputs = [torch.randn(batch_size, heads, tokens, width, device=device, dtype=dtype) for _ in range(3)]
    bias = torch.randn(1, heads, tokens, tokens, device=device)
    found: dict[str, dict[str, Any]] = {}
    for name, attend in ways.items():
        try:
            found[name] = _timed(attend, [*inputs, ready(bias, dtype) if attend is fused else bias], device)
        except Exception as error:  # of a kernel that is not there: torch has many kinds
            found[name] = {"error": f"{type(error).__name__}: {error}".splitlines()[0]}
    if device.type == "cuda":
        torch.cuda.empty_cache()
    return found


def _timed(attend: Attend, inputs: list[Tensor], device: torch.device) -> dict[str, Any]:
    trained = [tensor.detach().requires_grad_() for tensor in inputs]  # no clone, which would lose the rows' alignment
    gradient = torch.randn_like(inputs[0])

    def forward() -> None:
        with torch.no_grad():
            attend(*inputs)

    def both() -> None:
        for tensor in trained:
            tensor.grad = None
        attend(*trained).backward(gradient)

    return {name: _median(call, device) for name, call in (("no_gradient", forward), ("gradient", both))}


def _median(call: Callable[[], None], device: torch.device) -> float:
    """Of one call; on a GPU of many in a row, as launching them hides behind its work in training."""
    calls = _TOGETHER.get(device.type, 1)
    found = [seconds(lambda: [call() for _ in range(calls)], device) / calls for _ in range(3 + _ROUNDS)]
    return statistics.median(found[3:])
