"""Resizing of position tables to another grid of patches."""

import math
from collections.abc import Mapping

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.interpolate import RectBivariateSpline
from timm.layers import resample_abs_pos_embed  # type: ignore[attr-defined]
from torch import Tensor

_SHARED = "rel_pos_bias.relative_position_bias_table"
_TABLE = "relative_position_bias_table"
CLASS_TOKEN_ROWS = 3
"""Last rows of a relative position table: class token to patch, patch to class token, class token to itself."""


def fit_positions(state: Mapping[str, Tensor], model: Mapping[str, Tensor], grid: tuple[int, int]) -> dict[str, Tensor]:
    """Convert the position tables of weights to the form and size of a model's tables.

    A shared table of relative positions is copied to each block if the model has tables there. Tables of relative
    positions are resized by ``resize_table``, absolute positions by timm's bicubic resampling.

    Args:
        state: state dict of the weights to load.
        model: state dict of the model.
        grid: patches along height and width of the model.

    Raises:
        ValueError: a table cannot be resized because source or target grid is not square.
    """
    fitted = dict(state)
    if _SHARED in fitted and _SHARED not in model:
        shared = fitted.pop(_SHARED)
        fitted |= {name: shared.clone() for name in model if name.endswith(f"attn.{_TABLE}")}
    for name in fitted.keys() & model.keys():
        tensor, needed = fitted[name], model[name]
        if tensor.shape == needed.shape:
            continue
        if name.endswith(_TABLE) and tensor.ndim == 2:
            try:
                fitted[name] = resize_table(tensor, grid)
            except ValueError as error:
                raise ValueError(f"{name} cannot be resized: {error}") from error
        elif name == "pos_embed" and tensor.ndim == 3 and tensor.shape[2] == needed.shape[2]:
            prefix = needed.shape[1] - grid[0] * grid[1]
            _square_side(tensor.shape[1] - prefix, name)
            fitted[name] = resample_abs_pos_embed(tensor, list(grid), num_prefix_tokens=prefix)
    return fitted


def resize_table(table: Tensor, grid: tuple[int, int]) -> Tensor:
    """Resize a table of relative positions to another grid.

    official: the offsets of the source are placed in a geometric progression, dense around 0 and reaching the farthest
    target offset, and interpolated by a bicubic spline. timm uses the same progression but interpolates linearly.
    Reference: BEiT, arXiv 2106.08254, its fine-tuning code.

    Args:
        table: ((2n - 1)^2 + 3, heads) table for n x n patches and a class token.
        grid: patches along height and width of the target, equal.

    Returns:
        ((2m - 1)^2 + 3, heads) for m x m patches, in the table's dtype.

    Raises:
        ValueError: source or target grid is not square.
    """
    if grid[0] != grid[1]:
        raise ValueError(f"the target grid of {grid[0]} x {grid[1]} patches is not square")
    rows = len(table) - CLASS_TOKEN_ROWS
    source, target = _square_side(rows, "a table of relative positions"), 2 * grid[0] - 1
    if source == target:
        return table
    if source < 5:
        raise ValueError(f"a source grid of {(source + 1) // 2} patches per side is too small for a bicubic spline")
    positions = _progression(source // 2, target // 2)
    wanted = np.arange(-(target // 2), target // 2 + 1, dtype=np.float64)
    offsets = table[:-CLASS_TOKEN_ROWS].float().numpy().reshape(source, source, -1)  # official: float32
    heads = [RectBivariateSpline(positions, positions, offsets[..., head]) for head in range(offsets.shape[2])]
    resized = np.stack([spline(wanted, wanted).ravel() for spline in heads], 1)
    return torch.cat([torch.from_numpy(resized).to(table.dtype), table[-CLASS_TOKEN_ROWS:]])


def _progression(source: int, target: int) -> NDArray[np.float64]:
    """Return the positions of the source's offsets -source ... source on the target's scale.

    The steps are a geometric progression: ``source`` steps reach ``target``; bisection of [1.01, 1.5] gives the ratio.
    """
    low, high, factor = 1.01, 1.5, 1.01
    while high - low > 1e-6:
        factor = (low + high) / 2
        if (1 - factor**source) / (1 - factor) > target:
            high = factor
        else:
            low = factor
    steps = factor ** np.arange(source)
    reach = np.cumsum(steps)
    return np.concatenate([-reach[::-1], [0.0], reach])


def _square_side(entries: int, name: str) -> int:
    side = math.isqrt(max(entries, 0))
    if side * side != entries or side < 1:
        raise ValueError(f"{name} has {entries} entries without those of the class token, which is not a square")
    return side
