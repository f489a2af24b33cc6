"""Many linear classifiers in parallel."""

from collections.abc import Mapping, Sequence
from typing import Literal

import torch
from torch import Tensor, nn

Norm = Literal["none", "layer", "batch"]
_NORMS = {
    "none": lambda width: nn.Identity(),
    "layer": lambda width: nn.LayerNorm(width, elementwise_affine=False, eps=1e-6),
    "batch": lambda width: nn.BatchNorm1d(width, affine=False, eps=1e-6),
}
_STD = 0.01


class LinearHeads(nn.Module):
    """One independent classifier per feature and learning rate.

    Shapes: M classifiers, B images, K classes.

    Args:
        widths: width of each feature, by name.
        learning_rates: peak learning rates, > 0.
        num_classes: K.
        norm: normalisation of the features, without parameters: "none", "layer" or "batch" (MAE, arXiv 2111.06377).

    Raises:
        ValueError: norm is unknown, or there is no learning rate, or one is not positive.
    """

    def __init__(
        self, widths: Mapping[str, int], learning_rates: Sequence[float], num_classes: int, norm: Norm = "none"
    ) -> None:
        super().__init__()
        if norm not in _NORMS:
            raise ValueError(f"norm must be one of {list(_NORMS)}, got {norm!r}")
        if not learning_rates or min(learning_rates) <= 0:
            raise ValueError(f"learning_rates must be positive numbers, at least one, got {list(learning_rates)}")
        self.norms = nn.ModuleDict({feature: _NORMS[norm](width) for feature, width in widths.items()})
        self.settings = [(feature, float(lr)) for feature in widths for lr in learning_rates]
        self.heads = nn.ModuleList(nn.Linear(widths[feature], num_classes) for feature, _ in self.settings)
        for head in self.heads:
            nn.init.normal_(head.get_parameter("weight"), std=_STD)
            nn.init.zeros_(head.get_parameter("bias"))

    def __len__(self) -> int:
        """Return the number of classifiers, M."""
        return len(self.heads)

    def name(self, index: int) -> str:
        """Return a text with feature and learning rate of a classifier."""
        feature, lr = self.settings[index]
        return f"{feature}, learning rate {lr:g}"

    def forward(self, features: Mapping[str, Tensor]) -> Tensor:
        """Map features by name to (M, B, K) logits."""
        normed = {feature: norm(features[feature]) for feature, norm in self.norms.items()}
        return torch.stack([head(normed[name]) for head, (name, _) in zip(self.heads, self.settings, strict=True)])

    def forward_head(self, index: int, features: Mapping[str, Tensor]) -> Tensor:
        """Return the (B, K) logits of one classifier."""
        feature, _ = self.settings[index]
        return self.heads[index](self.norms[feature](features[feature]))

    def param_groups(self) -> list[dict[str, object]]:
        """Return one parameter group per classifier, with its learning rate."""
        return [
            {"params": list(head.parameters()), "lr": lr}
            for head, (_, lr) in zip(self.heads, self.settings, strict=True)
        ]
