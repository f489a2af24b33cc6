"""Nearest neighbours among all training images."""

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from conmim_lightning.metrics.knn import knn_votes
from conmim_lightning.probes.rows import Rows, check_ways

_ON_DEVICE = 8 << 30  # bytes of features that are moved to the device for good


class KNNProbe(nn.Module):
    """Votes of the k nearest training images by cosine, weighted by exp(cosine / temperature); exact.

    All training images vote where there are fewer than k.

    Reference: Wu et al. 2018 (arXiv 1805.01978), as DINO uses it. Shapes: B images, K classes, D length of features.

    Args:
        num_classes: K.
        widths: length of the features by way.
        num_neighbors: each k to report, >= 1.
        temperature: > 0.
        way: which features; null for the first.

    Raises:
        ValueError: an argument is out of its range.
    """

    def __init__(
        self,
        *,
        num_classes: int,
        widths: Mapping[str, int],
        num_neighbors: Sequence[int],
        temperature: float = 0.07,
        way: str | None = None,
    ) -> None:
        super().__init__()
        if not num_neighbors or min(num_neighbors) < 1 or temperature <= 0:
            raise ValueError(
                f"k-NN needs num_neighbors >= 1 and temperature > 0, got {list(num_neighbors)}, {temperature}"
            )
        way = next(iter(widths)) if way is None else way
        check_ways([way], widths)
        self.variants = [f"k{k}" for k in sorted(set(num_neighbors))]
        self.num_classes = num_classes
        self.num_neighbors = sorted(set(num_neighbors))
        self.temperature = temperature
        self.way = way
        self.bank = torch.zeros(0, 0, dtype=torch.float16)
        self.bank_labels = torch.zeros(0, dtype=torch.long)

    def fit(self, train: Rows, selection: Rows | None, device: Any) -> dict[str, float]:
        """Keep the training images' features, of unit length; nothing is chosen."""
        filled = 0
        for part, _ in train.chunks(self.way, device):
            if not filled:
                self.bank = torch.empty(len(train), part.shape[1], dtype=torch.float16)
            self.bank[filled : filled + len(part)] = F.normalize(part, dim=1).half().cpu()
            filled += len(part)
        self.bank_labels = train.labels[: len(train)].clone()
        return {}

    def forward(self, features: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Features by way to (B, K) shares of the votes, by "k<neighbours>"."""
        queries = F.normalize(features[self.way], dim=1)
        if self.bank.device != queries.device and self.bank.nbytes <= _ON_DEVICE:
            self.bank, self.bank_labels = self.bank.to(queries.device), self.bank_labels.to(queries.device)
        votes = knn_votes(
            queries,
            self.bank,
            self.bank_labels,
            num_neighbors=self.num_neighbors,
            temperature=self.temperature,
            num_classes=self.num_classes,
        )
        return {f"k{k}": value / value.sum(1, keepdim=True) for k, value in votes.items()}

    def get_extra_state(self) -> dict[str, Tensor]:
        """The features and classes that vote."""
        return {"bank": self.bank.cpu(), "bank_labels": self.bank_labels.cpu()}

    def set_extra_state(self, state: dict[str, Tensor]) -> None:
        """Take features and classes."""
        self.bank, self.bank_labels = state["bank"], state["bank_labels"]
