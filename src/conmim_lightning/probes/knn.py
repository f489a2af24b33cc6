"""k-NN classification by all training images."""

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from conmim_lightning.metrics.knn import knn_votes
from conmim_lightning.probes.feature_store import Device, FeatureStore, check_features

_LARGEST_ON_DEVICE = 8 << 30  # largest size in bytes of features that are kept on the device


class KNNProbe(nn.Module):
    """Exact k-NN classifier: the k nearest training images by cosine vote, weighted by exp(cosine / temperature).

    All training images vote if there are fewer than k.

    Reference: Wu et al. 2018 (arXiv 1805.01978), as used by DINO. Shapes: B images, K classes, D width.

    Args:
        num_classes: K.
        widths: width D of each feature, by name.
        num_neighbors: values of k to evaluate, >= 1.
        temperature: temperature of the votes, > 0.
        feature: name of the feature to use; null for the first.

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
        feature: str | None = None,
    ) -> None:
        super().__init__()
        if not num_neighbors or min(num_neighbors) < 1 or temperature <= 0:
            raise ValueError(
                f"k-NN needs num_neighbors >= 1 and temperature > 0, got {list(num_neighbors)}, {temperature}"
            )
        feature = next(iter(widths)) if feature is None else feature
        check_features([feature], widths)
        self.num_neighbors = sorted(set(num_neighbors))
        self.variants = [f"k{k}" for k in self.num_neighbors]
        self.num_classes = num_classes
        self.temperature = temperature
        self.feature = feature
        self.bank = torch.zeros(0, 0)
        self.bank_labels = torch.zeros(0, dtype=torch.long)

    def fit(self, train: FeatureStore, selection: FeatureStore | None, device: Device) -> dict[str, float]:
        """Store the training images' features, scaled to unit norm; ``selection`` is not used."""
        filled = 0
        for values, _ in train.chunks(self.feature, device):
            if not filled:
                self.bank = torch.empty(len(train), values.shape[1])
            self.bank[filled : filled + len(values)] = F.normalize(values, dim=1).cpu()
            filled += len(values)
        self.bank_labels = train.labels[: len(train)].clone()
        return {}

    def forward(self, features: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Map features by name to (B, K) fractions of the votes, by "k<neighbours>"."""
        queries = F.normalize(features[self.feature], dim=1)
        if self.bank.device != queries.device and self.bank.nbytes <= _LARGEST_ON_DEVICE:
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
        """Return features and classes of the training images."""
        return {"bank": self.bank.cpu(), "bank_labels": self.bank_labels.cpu()}

    def set_extra_state(self, state: dict[str, Tensor]) -> None:
        """Restore features and classes of the training images."""
        self.bank, self.bank_labels = state["bank"], state["bank_labels"]
