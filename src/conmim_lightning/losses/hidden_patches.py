"""What losses over the hidden patches of images have in common.

Shapes: B images, K patches, C values per patch, R hidden patches of an image, at most.
"""

import torch
from torch import Tensor


def check_patches(mask: Tensor, **tokens: Tensor) -> None:
    """Raise ValueError unless all tokens, by name, are of one shape (B, K, C) that fits a (B, K) mask."""
    shapes = {tuple(value.shape) for value in tokens.values()}
    if len(shapes) > 1 or mask.shape != next(iter(tokens.values())).shape[:2]:
        given = ", ".join(f"{name} {tuple(value.shape)}" for name, value in tokens.items())
        raise ValueError(
            f"{given} and mask {tuple(mask.shape)} do not agree: expected (B, K, C) and a mask of (B, K) or (B, h, w) "
            "with h * w = K"
        )


def hidden_patch_indices(mask: Tensor, max_hidden: int = 0) -> Tensor:
    """Return the indices of each image's hidden patches, in order; visible patches fill up images with fewer of them.

    Args:
        mask: (B, K) or (B, h, w) bool, True = hidden.
        max_hidden: largest number of hidden patches in an image, R; more are left out. 0 counts them, which waits for
            a GPU.

    Returns:
        (B, R) int64, R at least 1.
    """
    hidden = mask.flatten(1)
    count = max_hidden or max(1, int(hidden.sum(1).max()))
    return hidden.int().argsort(dim=1, descending=True, stable=True)[:, :count]


def gather_patches(tokens: Tensor, indices: Tensor) -> Tensor:
    """Gather tokens: (B, K, C) tokens, (B, R) indices -> (B, R, C)."""
    return tokens.gather(1, indices[..., None].expand(-1, -1, tokens.shape[-1]))


def at_least_float32(tokens: Tensor) -> Tensor:
    """Return tokens of half precision in float32, and others as they are."""
    return tokens.float() if tokens.dtype in (torch.float16, torch.bfloat16) else tokens


def mean_over_hidden(values: Tensor, hidden: Tensor, indices: Tensor) -> Tensor:
    """Return the mean of (B, R) values of the patches at ``indices``, over those that the (B, K) mask hides."""
    return torch.where(hidden.gather(1, indices), values, 0).sum() / hidden.sum()
