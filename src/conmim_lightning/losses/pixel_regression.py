"""Regression of the pixels of hidden patches (SimMIM, arXiv 2111.09886), a pretext task to compare with."""

from torch import Tensor, nn

from conmim_lightning.losses.hidden_patches import (
    at_least_float32,
    check_patches,
    gather_patches,
    hidden_patch_indices,
    mean_over_hidden,
)


class PixelRegression(nn.Module):
    """Mean absolute error of the predicted pixels, over the hidden patches only.

    It is computed in float32 for half-precision inputs, and in the dtype of the inputs otherwise; targets receive no
    gradient. Shapes: B images, K patches, P pixel values per patch, all channels.

    source: SimMIM's official code, which divides the sum of the errors at hidden pixels by their number and by the
    number of channels.
    """

    def forward(self, predictions: Tensor, pixels: Tensor, mask: Tensor, indices: Tensor | None = None) -> Tensor:
        """Return the mean error over the hidden patches.

        Args:
            predictions: (B, K, P) predicted pixels; those of visible patches are not read.
            pixels: (B, K, P) normalised pixels of the target view, see ``PixelTargets``.
            mask: (B, h, w) or (B, K) bool, True = hidden; at least one hidden patch in the batch.
            indices: (B, R) indices of the hidden patches, see ``hidden_patch_indices``; None computes them.

        Returns:
            Scalar loss, in standard deviations of the pixels.

        Raises:
            ValueError: the shapes do not agree.
        """
        hidden = mask.flatten(1)  # (B, K)
        check_patches(hidden, predictions=predictions, pixels=pixels)
        indices = hidden_patch_indices(hidden) if indices is None else indices
        predicted, target = (at_least_float32(gather_patches(x, indices)) for x in (predictions, pixels.detach()))
        return mean_over_hidden((predicted - target).abs().mean(-1), hidden, indices)
