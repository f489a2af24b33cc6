"""Many linear classifiers side by side."""

from collections.abc import Mapping, Sequence
from typing import Any, Literal

import torch
from torch import Tensor, nn

Norm = Literal["none", "layer", "batch"]
_NORMS = {
    "none": lambda width: nn.Identity(),
    "layer": lambda width: nn.LayerNorm(width, elementwise_affine=False, eps=1e-6),
    "batch": lambda width: nn.BatchNorm1d(width, affine=False, eps=1e-6),
}
_SPREAD = 0.01


class LinearHeads(nn.Module):
    """A classifier for each way to read features and each learning rate; none knows of the others.

    Shapes: M classifiers, B images, K classes.

    Args:
        widths: length of the features by way.
        rates: learning rates, > 0.
        num_classes: K.
        norm: of the features, without parameters: "none", "layer" or "batch" (MAE, arXiv 2111.06377).

    Raises:
        ValueError: norm is unknown, or there is no rate, or one that is not positive.
    """

    def __init__(
        self, widths: Mapping[str, int], rates: Sequence[float], num_classes: int, norm: Norm = "none"
    ) -> None:
        super().__init__()
        if norm not in _NORMS:
            raise ValueError(f"norm must be one of {list(_NORMS)}, got {norm!r}")
        if not rates or min(rates) <= 0:
            raise ValueError(f"rates must be positive numbers, at least one, got {list(rates)}")
        self.norms = nn.ModuleDict({way: _NORMS[norm](width) for way, width in widths.items()})
        self.settings = [(way, float(rate)) for way in widths for rate in rates]
        self.heads = nn.ModuleList(nn.Linear(widths[way], num_classes) for way, _ in self.settings)
        for head in self.heads:
            nn.init.normal_(head.get_parameter("weight"), std=_SPREAD)
            nn.init.zeros_(head.get_parameter("bias"))

    def __len__(self) -> int:
        """M."""
        return len(self.heads)

    def name(self, number: int) -> str:
        """What distinguishes a classifier: way and learning rate."""
        way, rate = self.settings[number]
        return f"{way}, rate {rate:g}"

    def forward(self, features: Mapping[str, Tensor]) -> Tensor:
        """Features by way to (M, B, K) logits."""
        normed = {way: norm(features[way]) for way, norm in self.norms.items()}
        return torch.stack([head(normed[way]) for head, (way, _) in zip(self.heads, self.settings, strict=True)])

    def one(self, number: int, features: Mapping[str, Tensor]) -> Tensor:
        """(B, K) logits of one classifier."""
        way, _ = self.settings[number]
        return self.heads[number](self.norms[way](features[way]))

    def groups(self) -> list[dict[str, Any]]:
        """A parameter group for each classifier, with its rate."""
        return [
            {"params": list(head.parameters()), "lr": rate}
            for head, (_, rate) in zip(self.heads, self.settings, strict=True)
        ]
