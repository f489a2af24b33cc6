"""Denoising contrast over the patches of an image (ConMIM, arXiv 2205.09616)."""

import math
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

Dictionary = Literal["image", "device"]


class PatchInfoNCE(nn.Module):
    """Each hidden patch must find its own key among all K patches of its image.

    Loss = mean over hidden positions j of -log softmax_i(<q_j, k_i> / temperature)[i = j], with q and k scaled to unit
    length and i over all K patches, hidden and visible. A model that knows nothing scores ln K. Computed in float32
    for half-precision inputs and in the dtype of the inputs otherwise; keys receive no gradient.

    Shapes: B images, K patches, C projected width.

    Args:
        temperature: divides the cosine similarities, > 0. 0.1 in the paper.
        dictionary: "image" takes the K keys of the same image (the method); "device" takes the B * K keys of all images
            on this device (an ablation of the paper).
        similarity_filter: drops, for a hidden patch j, every negative key i with <k_i, k_j> above this cosine, in
            (-1, 1]; None keeps all (the method). An ablation of the paper.

    Raises:
        ValueError: an argument is out of its range.
    """

    def __init__(
        self,
        *,
        temperature: float = 0.1,
        dictionary: Dictionary = "image",
        similarity_filter: float | None = None,
    ) -> None:
        super().__init__()
        if not (math.isfinite(temperature) and temperature > 0):
            raise ValueError(f"temperature must be a positive number, got {temperature}")
        if dictionary not in ("image", "device"):
            raise ValueError(f"dictionary must be 'image' or 'device', got {dictionary!r}")
        if similarity_filter is not None and not -1 < similarity_filter <= 1:
            raise ValueError(f"similarity_filter must be null or a cosine in (-1, 1], got {similarity_filter}")
        self.temperature = temperature
        self.dictionary = dictionary
        self.similarity_filter = similarity_filter

    def forward(self, queries: Tensor, keys: Tensor, mask: Tensor) -> Tensor:
        """Mean loss over the hidden patches.

        Args:
            queries: (B, K, C) projected student tokens.
            keys: (B, K, C) projected teacher tokens.
            mask: (B, h, w) or (B, K) bool, True = hidden; at least one hidden patch in the batch.

        Returns:
            Scalar loss, in nats.
        """
        hidden = mask.flatten(1)  # (B, K)
        if queries.shape != keys.shape or hidden.shape != queries.shape[:2]:
            raise ValueError(
                f"queries {tuple(queries.shape)}, keys {tuple(keys.shape)} and mask {tuple(mask.shape)} do not agree: "
                "expected (B, K, C), (B, K, C) and (B, K) or (B, h, w) with h * w = K"
            )
        with torch.autocast(queries.device.type, enabled=False):
            logits = self.logits(queries, keys)  # (B, K, K) or (B, K, B * K)
            position = torch.arange(logits.shape[1], device=logits.device).expand_as(hidden)
            if self.dictionary == "device":
                position = position + torch.arange(len(hidden), device=logits.device)[:, None] * logits.shape[1]
            per_patch = F.cross_entropy(logits.flatten(0, 1), position.flatten(), reduction="none").view_as(hidden)
            return torch.where(hidden, per_patch, 0).sum() / hidden.sum()

    def logits(self, queries: Tensor, keys: Tensor) -> Tensor:
        """Cosine similarities over temperature, (B, K, K), or (B, K, B * K) with the device's dictionary."""
        queries, keys = unit_length(queries), unit_length(keys.detach())
        if self.dictionary == "device":
            keys = keys.flatten(0, 1)[None]  # (1, B * K, C)
        logits = queries @ keys.transpose(1, 2) / self.temperature
        if self.similarity_filter is not None:
            logits = logits.masked_fill(self._too_similar(keys, len(queries)), -torch.inf)
        return logits

    def _too_similar(self, keys: Tensor, batch: int) -> Tensor:
        """(B, K, K) or (B, K, B * K) bool: negatives that the filter drops; never the positive itself."""
        assert self.similarity_filter is not None
        similarity = keys @ keys.transpose(1, 2)
        similarity.diagonal(dim1=1, dim2=2).fill_(-torch.inf)  # the positive stays
        return (similarity > self.similarity_filter).view(batch, -1, similarity.shape[-1])


def unit_length(tokens: Tensor) -> Tensor:
    """Scale the last dimension to unit length, in float32 at least."""
    wide = tokens.float() if tokens.dtype in (torch.float16, torch.bfloat16) else tokens
    return F.normalize(wide, dim=-1)
