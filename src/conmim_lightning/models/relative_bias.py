"""The attention bias of a table of relative positions, for a grid of any size."""

from functools import partial
from typing import TypeVar

import torch
from torch import Tensor

from conmim_lightning.weights.positions import CLASS_TOKEN_ROWS, resize_table

_CACHED_INDICES = 4  # number of grids; the index of a grid of 4,096 patches takes 134 MB
_CACHED_TABLES = 64  # resized tables of all blocks, which are small, for a few sizes

Key = TypeVar("Key")


def relative_index(height: int, width: int, side: int) -> Tensor:
    """Return the row of a table of relative positions for every pair of tokens.

    Args:
        height: patches along the height of the grid, at most ``side``.
        width: patches along the width of the grid, at most ``side``.
        side: patches per side of the square grid of the table.

    Returns:
        (1 + N, 1 + N) int64 for N = height * width patches after a class token, as in BEiT; queries along the first
        dimension.
    """
    y, x = (grid.flatten() for grid in torch.meshgrid(torch.arange(height), torch.arange(width), indexing="ij"))
    offset_y, offset_x = (position[:, None] - position[None, :] + side - 1 for position in (y, x))
    rows = (2 * side - 1) ** 2
    index = torch.full((1 + len(y), 1 + len(y)), rows + 1)  # patch to class token
    index[1:, 1:] = offset_y * (2 * side - 1) + offset_x
    index[0, :] = rows  # class token to patch
    index[0, 0] = rows + 2
    return index


class RelativeBias:
    """Compute attention biases from tables of a square grid; indices are cached per size and device.

    Args:
        class_token: whether the first token is a class token.
    """

    def __init__(self, *, class_token: bool) -> None:
        self.class_token = class_token
        self._indices: dict[tuple[int, int, int, torch.device], Tensor] = {}
        self._resized: dict[tuple[int, int, int], Tensor] = {}

    def __call__(self, table: Tensor, height: int, width: int) -> Tensor:
        """Return the (heads, T, T) bias for a grid of height x width patches.

        If the grid is larger than the table's, a resized copy of the table is used, without gradient to the table.

        Args:
            table: ((2 side - 1)^2 + 3, heads).
            height: patches along the height of the grid.
            width: patches along the width of the grid.
        """
        side = table_side(table)
        if max(height, width) > side:
            side = max(height, width)
            table = self._enlarged(table, side)
        key = (height, width, side, table.device)
        if key not in self._indices:
            _drop_oldest(self._indices, _CACHED_INDICES)
            with torch.inference_mode(False):  # training may follow
                index = relative_index(height, width, side)
                self._indices[key] = (index if self.class_token else index[1:, 1:]).contiguous().to(table.device)
        index = self._indices[key]
        return table[index.flatten()].view(*index.shape, -1).permute(2, 0, 1).contiguous()  # fused kernels need it

    def _enlarged(self, table: Tensor, side: int) -> Tensor:
        """Return a resized copy, cached until the table changes."""
        if table.is_inference():
            return resize_table(table.cpu(), (side, side)).to(table.device)
        key = (table.data_ptr(), table._version, side)
        if key not in self._resized:
            _drop_oldest(self._resized, _CACHED_TABLES)
            with torch.inference_mode(False):
                self._resized[key] = resize_table(table.detach().cpu(), (side, side)).to(table.device)
        return self._resized[key]

    def __reduce__(self) -> tuple[object, ...]:
        """Copy without the cache."""
        return partial(RelativeBias, class_token=self.class_token), ()


def table_side(table: Tensor) -> int:
    """Return the patches per side of the square grid of a table."""
    return (round((len(table) - CLASS_TOKEN_ROWS) ** 0.5) + 1) // 2


def _drop_oldest(cache: dict[Key, Tensor], largest: int) -> None:
    if len(cache) >= largest:
        del cache[next(iter(cache))]
