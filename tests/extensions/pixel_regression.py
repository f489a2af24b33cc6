"""A pretext loss: the student regresses the pixels of each hidden patch."""

import torch
from torch import Tensor, nn
from torch.nn import functional as F


class PixelTargets(nn.Module):
    """Target of the pretext task in place of a teacher: the pixels of each patch, normalised per patch.

    Args:
        branch: of the student; unused.
        patch_size: pixels per side of a patch.
    """

    def __init__(self, branch: nn.Module, *, patch_size: int) -> None:
        super().__init__()
        self.patch_size = patch_size

    @torch.no_grad()
    def forward(self, view: Tensor) -> Tensor:
        """(B, C, H, W) whole view -> (B, N, C * patch_size^2)."""
        pixels = F.unfold(view, self.patch_size, stride=self.patch_size).transpose(1, 2)
        return F.layer_norm(pixels, pixels.shape[-1:])

    def update(self, student: nn.Module, momentum: float) -> None:
        """Nothing to update."""


class PixelRegression(nn.Module):
    """Mean squared error over the hidden patches."""

    def forward(self, queries: Tensor, keys: Tensor, mask: Tensor, indices: Tensor | None = None) -> Tensor:
        """(B, N, P) predictions, (B, N, P) targets and (B, h, w) mask -> scalar."""
        hidden = mask.flatten(1)
        errors = (queries.float() - keys.float()).square().mean(-1)
        return (errors * hidden).sum() / hidden.sum()
