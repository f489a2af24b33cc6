"""Target and prediction of pixel regression (SimMIM, arXiv 2111.09886), in place of teacher and projector."""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from conmim_lightning.models.init import init_weights


class PixelTargets(nn.Module):
    """The normalised pixels of each patch as the target of the pretext task, see ``ConMIM`` and ``Teacher``.

    Args:
        branch: student's branch, whose patch size is taken.
    """

    def __init__(self, branch: nn.Module) -> None:
        super().__init__()
        height, width = branch.get_submodule("encoder").backbone.patch_embed.patch_size  # type: ignore[union-attr]
        self.patch_size: tuple[int, int] = (int(height), int(width))  # type: ignore[arg-type]

    @torch.no_grad()
    def forward(self, view: Tensor) -> Tensor:
        """Return the pixels of all patches: (B, C, H, W) view -> (B, N, P), P = C * patch height * patch width."""
        return F.unfold(view, self.patch_size, stride=self.patch_size).transpose(1, 2)

    def update(self, student: nn.Module, momentum: float) -> None:
        """Do nothing: pixels do not depend on the student."""


class LinearPrediction(nn.Module):
    """One linear layer from tokens to the pixels of their patches, as a ``projector`` of ``ConMIM``.

    official: SimMIM's decoder is one linear layer.

    Args:
        in_dim: D, width of the tokens.
        patch_size: pixels per side of a patch.
        in_chans: channels of the images.

    Raises:
        ValueError: a number is below 1.
    """

    def __init__(self, *, in_dim: int, patch_size: int, in_chans: int = 3) -> None:
        super().__init__()
        if min(in_dim, patch_size, in_chans) < 1:
            raise ValueError(
                f"in_dim, patch_size and in_chans must be positive, got {in_dim}, {patch_size} and {in_chans}"
            )
        self.layer = nn.Linear(in_dim, in_chans * patch_size**2)
        self.apply(init_weights)

    def forward(self, tokens: Tensor) -> Tensor:
        """Predict the pixels: (B, T, D) -> (B, T, in_chans * patch_size^2)."""
        return self.layer(tokens)
