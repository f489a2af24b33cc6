"""Weighted k-NN classification of frozen features (Wu et al. 2018, as used by DINO)."""

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn import functional as F
from torchmetrics import Metric

_CENTRE = 4096  # neighbours whose mean is the origin
_CANDIDATES = 64  # smallest number of further neighbours whose distances are computed again, exactly
_QUERIES = 64  # at a time


class KNNAccuracy(Metric):
    """Top-1 and top-5 accuracy of k nearest neighbours by cosine, votes weighted by exp(cosine / temperature).

    The search is exact, in chunks of queries; the order of updates matters only for ties. Shapes: B images, D width.

    Args:
        num_neighbors: k, >= 1; if there are fewer reference images, all of them vote.
        temperature: temperature of the votes, > 0; 0.07 in the references.

    Raises:
        ValueError: an argument is out of its range.
    """

    full_state_update = False

    def __init__(self, *, num_neighbors: int = 20, temperature: float = 0.07) -> None:
        super().__init__()
        if num_neighbors < 1 or temperature <= 0:
            raise ValueError(f"k-NN needs num_neighbors >= 1 and temperature > 0, got {num_neighbors}, {temperature}")
        self.num_neighbors = num_neighbors
        self.temperature = temperature
        for role in ("reference", "query"):
            self.add_state(f"{role}_features", [], dist_reduce_fx="cat")
            self.add_state(f"{role}_labels", [], dist_reduce_fx="cat")

    def update(self, features: Tensor, labels: Tensor, *, reference: bool) -> None:
        """Add images.

        Args:
            features: (B, D) features, not necessarily of unit norm.
            labels: (B,) int64, 0-based.
            reference: True for possible neighbours, False for images to classify.
        """
        role = "reference" if reference else "query"
        getattr(self, f"{role}_features").append(F.normalize(features.float(), dim=1))
        getattr(self, f"{role}_labels").append(labels)

    def compute(self) -> dict[str, Tensor]:
        """Return the accuracies "top1" and "top5", 0 to 1, and "top1_error", the standard error of a proportion."""
        bank, bank_labels = self._all("reference_features"), self._all("reference_labels")
        queries, labels = self._all("query_features"), self._all("query_labels")
        num_classes = int(torch.maximum(bank_labels.max(), labels.max())) + 1
        k = min(self.num_neighbors, len(bank))
        hits = torch.zeros(2, device=queries.device)
        for chunk, chunk_labels in zip(queries.split(1024), labels.split(1024), strict=True):
            votes = knn_votes(
                chunk, bank, bank_labels, num_neighbors=[k], temperature=self.temperature, num_classes=num_classes
            )
            ranked = votes[k].topk(min(5, num_classes)).indices == chunk_labels[:, None]
            hits += torch.stack([ranked[:, 0].sum(), ranked.any(1).sum()])
        top1, top5 = hits / len(queries)
        return {"top1": top1, "top5": top5, "top1_error": (top1 * (1 - top1) / len(queries)).sqrt()}

    def _all(self, name: str) -> Tensor:
        value = getattr(self, name)
        return torch.cat(value) if isinstance(value, list) else value


def knn_votes(
    queries: Tensor,
    bank: Tensor,
    bank_labels: Tensor,
    *,
    num_neighbors: Sequence[int],
    temperature: float,
    num_classes: int,
    chunk: int = 1 << 16,
) -> dict[int, Tensor]:
    """Return the votes of the exact nearest neighbours, computed in chunks of neighbours.

    Shapes: B queries, N neighbours, D width, K classes.

    Args:
        queries: (B, D) features of unit norm.
        bank: (N, D) features of unit norm on any device; chunks are moved to the queries' device.
        bank_labels: (N,) classes of the neighbours.
        num_neighbors: values of k, from 1 to N.
        temperature: votes are weighted by exp(cosine / temperature).
        num_classes: K.
        chunk: neighbours compared at a time.

    Returns:
        (B, K) float64 sums of vote weights, by k.
    """
    largest = max(num_neighbors)
    candidates = largest + max(_CANDIDATES, largest)
    best = torch.zeros(len(queries), 0, device=queries.device)
    indices = torch.zeros(len(queries), 0, dtype=torch.long, device=queries.device)
    centre = bank[:: max(1, len(bank) // _CENTRE)].to(queries.device).float().mean(0)
    start = 0
    for keys in bank.split(chunk):
        closeness = _closeness(queries, keys.to(queries.device, queries.dtype), centre)
        nearest, index = closeness.topk(min(candidates, len(keys)))
        best, indices = torch.cat([best, nearest], 1), torch.cat([indices, index + start], 1)
        best, order = best.topk(min(candidates, best.shape[1]))
        indices, start = indices.gather(1, order), start + len(keys)
    precise = torch.float32 if queries.device.type == "mps" else torch.float64  # classes may have equally many votes
    best = _exact_closeness(queries.to(precise), bank, indices)
    best, order = best.topk(min(largest, best.shape[1]))
    labels = bank_labels.to(queries.device)[indices.gather(1, order)]
    weights = ((1 + best) / temperature).exp()
    empty = torch.zeros(len(queries), num_classes, device=queries.device, dtype=precise)
    return {k: empty.scatter_add(1, labels[:, :k], weights[:, :k]) for k in num_neighbors}


def _closeness(queries: Tensor, keys: Tensor, centre: Tensor) -> Tensor:
    """Return (B, N) cosines of unit vectors, minus 1: -|q - k|^2 / 2, in full float32.

    The distance is computed from the centre, so that it is precise for nearly collinear features as well. TF32 or
    bfloat16 would confuse neighbours with similar cosines.
    """
    before = torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision("highest")
    try:
        with torch.autocast(queries.device.type, enabled=False):
            queries, keys = queries.float() - centre, keys.float() - centre
            products = queries @ keys.T
    finally:
        torch.set_float32_matmul_precision(before)
    squares = queries.square().sum(1, keepdim=True) + keys.square().sum(1)
    return -0.5 * (squares - 2 * products).clamp(min=0)


def _exact_closeness(queries: Tensor, bank: Tensor, indices: Tensor) -> Tensor:
    """Return (B, C) values of -|q - k|^2 / 2 in the queries' precision, for (B, C) indices of candidates."""
    rows = []
    for query, chosen in zip(queries.split(_QUERIES), indices.split(_QUERIES), strict=True):
        keys = bank[chosen.to(bank.device)].to(query.device, query.dtype)  # (b, C, D)
        rows.append(-0.5 * (query[:, None] - keys).square().sum(-1))
    return torch.cat(rows)
