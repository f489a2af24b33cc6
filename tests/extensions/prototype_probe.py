"""A probe of frozen features: the nearest class mean."""

from collections.abc import Mapping

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from conmim_lightning.probes.feature_store import Device, FeatureStore


class PrototypeProbe(nn.Module):
    """Cosine to the mean feature of each class.

    Args:
        num_classes: K.
        widths: D by feature.
        feature: which one; null for the first.
    """

    variants = ("",)

    def __init__(self, *, num_classes: int, widths: Mapping[str, int], feature: str | None = None) -> None:
        super().__init__()
        self.feature = next(iter(widths)) if feature is None else feature
        self.register_buffer("means", torch.zeros(num_classes, widths[self.feature]))

    def fit(self, train: FeatureStore, selection: FeatureStore | None, device: Device) -> dict[str, float]:
        """Average the features of each class."""
        sums = torch.zeros_like(self.means, device=device)
        for values, labels in train.chunks(self.feature, device):
            sums.index_add_(0, labels.to(device), F.normalize(values.float(), dim=1))
        self.means.copy_(F.normalize(sums, dim=1))
        return {}

    def forward(self, features: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Features by name -> (B, K) probabilities."""
        cosines = F.normalize(features[self.feature].float(), dim=1) @ self.means.T
        return {"": (10 * cosines).softmax(1)}
