"""Denoising contrast over the patches of an image (ConMIM, arXiv 2205.09616)."""

import math
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from conmim_lightning.losses.hidden_patches import (
    at_least_float32,
    check_patches,
    gather_patches,
    hidden_patch_indices,
    mean_over_hidden,
)

Dictionary = Literal["image", "device"]


class PatchInfoNCE(nn.Module):
    """InfoNCE loss: the query of each hidden patch must match its own key among the keys of all K patches of its image.

    Loss = mean over hidden positions j of -log softmax_i(<q_j, k_i> / temperature)[i = j], with q and k scaled to unit
    length and i over all K patches, hidden and visible. An uninformed model scores ln K. It is computed in float32
    for half-precision inputs and in the dtype of the inputs otherwise; keys receive no gradient.

    Shapes: B images, K patches, C projected width.

    Args:
        temperature: divisor of the cosine similarities, > 0; 0.1 in the paper.
        dictionary: "image" takes the K keys of the same image (the method); "device" takes the B * K keys of all images
            on this device (an ablation of the paper).
        similarity_filter: cosine <k_i, k_j> above which the negative key i is dropped for the hidden patch j, in
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

    def forward(self, queries: Tensor, keys: Tensor, mask: Tensor, indices: Tensor | None = None) -> Tensor:
        """Return the mean loss over the hidden patches.

        Args:
            queries: (B, K, C) projected student tokens; tokens of visible patches are not read.
            keys: (B, K, C) projected teacher tokens.
            mask: (B, h, w) or (B, K) bool, True = hidden; at least one hidden patch in the batch.
            indices: (B, R) indices of the hidden patches, see ``hidden_patch_indices``; None computes them.

        Returns:
            Scalar loss, in nats.
        """
        hidden = mask.flatten(1)  # (B, K)
        check_patches(hidden, queries=queries, keys=keys)
        indices = hidden_patch_indices(hidden) if indices is None else indices
        with torch.autocast(queries.device.type, enabled=False):
            logits = self.logits(queries, keys, indices)  # (B, R, K) or (B, R, B * K)
            per_patch = F.cross_entropy(
                logits.flatten(0, 1), self._positives(indices, keys).flatten(), reduction="none"
            ).view_as(indices)
            return mean_over_hidden(per_patch, hidden, indices)

    def logits(self, queries: Tensor, keys: Tensor, indices: Tensor) -> Tensor:
        """Return cosine / temperature of the queries at (B, R) indices with all keys of their dictionary.

        Returns:
            (B, R, K), or (B, R, B * K) if ``dictionary`` is "device".
        """
        queries, keys = _normalized(gather_patches(queries, indices)) / self.temperature, _normalized(keys.detach())
        dictionary = keys if self.dictionary == "image" else keys.flatten(0, 1)  # (B, K, C) or (B * K, C)
        logits = queries @ dictionary.mT
        if self.similarity_filter is not None:
            too_similar = gather_patches(keys, indices) @ dictionary.mT > self.similarity_filter
            too_similar.scatter_(2, self._positives(indices, keys)[..., None], False)  # the positive is kept
            logits = logits.masked_fill(too_similar, -torch.inf)
        return logits

    def _positives(self, indices: Tensor, keys: Tensor) -> Tensor:
        """Return the (B, R) indices of the patches' own keys in their dictionary."""
        if self.dictionary == "image":
            return indices
        return indices + torch.arange(len(keys), device=indices.device)[:, None] * keys.shape[1]


def _normalized(tokens: Tensor) -> Tensor:
    """Scale the last dimension to unit length, at least in float32."""
    return F.normalize(at_least_float32(tokens), dim=-1)
