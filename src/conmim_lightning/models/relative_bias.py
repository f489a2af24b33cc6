"""What a table of relative positions adds to attention, on a grid of any size."""

from functools import partial
from typing import Any

import torch
from torch import Tensor

from conmim_lightning.weights.positions import CLASS_TOKEN_ROWS, resize_table


def relative_index(height: int, width: int, side: int) -> Tensor:
    """Rows of a table of relative positions, for every pair of tokens.

    Args:
        height: patches along the height of the grid, at most side.
        width: patches along its width, likewise.
        side: patches a side of the grid that the table is of.

    Returns:
        (1 + N, 1 + N) int64 for N = height * width patches and a class token in front, as in BEiT; queries along the
        first dimension.
    """
    y, x = (grid.flatten() for grid in torch.meshgrid(torch.arange(height), torch.arange(width), indexing="ij"))
    offset_y, offset_x = (places[:, None] - places[None, :] + side - 1 for places in (y, x))
    rows = (2 * side - 1) ** 2
    index = torch.full((1 + len(y), 1 + len(y)), rows + 1)  # a patch looks at the class token
    index[1:, 1:] = offset_y * (2 * side - 1) + offset_x
    index[0, :] = rows  # the class token looks at a patch
    index[0, 0] = rows + 2
    return index


_KEPT = 4  # indices of so many grids are kept; one of 4,096 patches takes 134 MB
_KEPT_TABLES = 64  # small ones, of all blocks and a few sizes


class RelativeBias:
    """Biases of attention from tables for a square grid; indices are made once a size and device.

    Args:
        class_token: whether the tokens begin with a class token.
    """

    def __init__(self, *, class_token: bool) -> None:
        self.class_token = class_token
        self._indices: dict[tuple[int, int, int, torch.device], Tensor] = {}
        self._resized: dict[tuple[int, int, int], Tensor] = {}

    def __call__(self, table: Tensor, height: int, width: int) -> Tensor:
        """(heads, T, T) bias for a grid of height x width patches.

        A grid that reaches farther than the table takes a resized copy of it, without gradient to the table.

        Args:
            table: ((2 side - 1)^2 + 3, heads).
            height: patches.
            width: patches.
        """
        side = table_side(table)
        if max(height, width) > side:
            side = max(height, width)
            table = self._enlarged(table, side)
        key = (height, width, side, table.device)
        if key not in self._indices:
            _forget_first(self._indices, _KEPT)
            with torch.inference_mode(False):  # training may follow
                index = relative_index(height, width, side)
                self._indices[key] = (index if self.class_token else index[1:, 1:]).contiguous().to(table.device)
        index = self._indices[key]
        return table[index.flatten()].view(*index.shape, -1).permute(2, 0, 1).contiguous()  # as fused kernels want it

    def _enlarged(self, table: Tensor, side: int) -> Tensor:
        """A resized copy, kept until the table changes."""
        if table.is_inference():
            return resize_table(table.cpu(), (side, side)).to(table.device)
        key = (table.data_ptr(), table._version, side)
        if key not in self._resized:
            _forget_first(self._resized, _KEPT_TABLES)
            with torch.inference_mode(False):
                self._resized[key] = resize_table(table.detach().cpu(), (side, side)).to(table.device)
        return self._resized[key]

    def __reduce__(self) -> tuple[object, ...]:
        """A copy, here or in another process, makes its indices anew."""
        return partial(RelativeBias, class_token=self.class_token), ()


def table_side(table: Tensor) -> int:
    """Patches a side of the grid that a table is of."""
    return (round((len(table) - CLASS_TOKEN_ROWS) ** 0.5) + 1) // 2


def _forget_first(kept: dict[Any, Tensor], most: int) -> None:
    if len(kept) >= most:
        del kept[next(iter(kept))]
