"""Cutting a grid of tokens into windows, and back."""

from torch import Tensor
from torch.nn import functional as F


def to_windows(tokens: Tensor, side: int) -> Tensor:
    """Windows of a grid that is padded with zeros below and to the right (as in ViTDet, arXiv 2203.16527).

    Args:
        tokens: (B, h, w, D).
        side: patches a side of a window.

    Returns:
        (B * windows, side * side, D), row by row.
    """
    batch, height, width, channels = tokens.shape
    tokens = F.pad(tokens, (0, 0, 0, -width % side, 0, -height % side))
    rows, columns = -(-height // side), -(-width // side)
    cut = tokens.view(batch, rows, side, columns, side, channels).transpose(2, 3)
    return cut.reshape(-1, side * side, channels)


def from_windows(windows: Tensor, side: int, height: int, width: int) -> Tensor:
    """The grid that ``to_windows`` cut, (B, h, w, D), without what was padded."""
    rows, columns = -(-height // side), -(-width // side)
    grid = windows.view(-1, rows, columns, side, side, windows.shape[-1]).transpose(2, 3)
    return grid.reshape(grid.shape[0], rows * side, columns * side, -1)[:, :height, :width]
