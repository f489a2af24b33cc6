"""Tables of positions for another grid of patches."""

import math
from collections.abc import Mapping

import numpy as np
import torch
from scipy.interpolate import RectBivariateSpline
from timm.layers import resample_abs_pos_embed  # type: ignore[attr-defined]
from torch import Tensor

_SHARED = "rel_pos_bias.relative_position_bias_table"
_TABLE = "relative_position_bias_table"
CLASS_TOKEN_ROWS = 3
"""Rows of a table behind those of the offsets: class token to patch, patch to class token, class token to itself."""


def fit_positions(state: Mapping[str, Tensor], mine: Mapping[str, Tensor], grid: tuple[int, int]) -> dict[str, Tensor]:
    """Weights with their position tables as a model needs them.

    A shared table of relative positions becomes a table in each block where the model has those; tables of relative
    positions are resized by ``resize_table``, absolute ones by timm's bicubic resampling.

    Args:
        state: weights to load.
        mine: the model's own.
        grid: patches along height and width of the model.

    Raises:
        ValueError: a table cannot be resized: source or target grid is not square.
    """
    found = dict(state)
    if _SHARED in found and _SHARED not in mine:
        shared = found.pop(_SHARED)
        found |= {name: shared.clone() for name in mine if name.endswith(f"attn.{_TABLE}")}
    for name in found.keys() & mine.keys():
        if found[name].shape == mine[name].shape:
            continue
        if name.endswith(_TABLE) and found[name].ndim == 2:
            found[name] = _named(name, found[name], grid)
        elif name == "pos_embed" and found[name].ndim == 3 and found[name].shape[2] == mine[name].shape[2]:
            prefix = mine[name].shape[1] - grid[0] * grid[1]
            _side(found[name].shape[1] - prefix, name)
            found[name] = resample_abs_pos_embed(found[name], list(grid), num_prefix_tokens=prefix)
    return found


def _named(name: str, table: Tensor, grid: tuple[int, int]) -> Tensor:
    try:
        return resize_table(table, grid)
    except ValueError as error:
        raise ValueError(f"{name} cannot be resized: {error}") from error


def resize_table(table: Tensor, grid: tuple[int, int]) -> Tensor:
    """A table of relative positions for another grid.

    official: offsets of the source are placed in a geometric progression, dense around 0 and reaching the farthest
    target offset, then interpolated by a bicubic spline. timm places them alike but interpolates linearly.
    Reference: BEiT, arXiv 2106.08254, its fine-tuning code.

    Args:
        table: ((2n - 1)^2 + 3, heads), as for n x n patches and a class token.
        grid: patches along height and width of the target, equal.

    Returns:
        ((2m - 1)^2 + 3, heads) for m x m patches, in the table's dtype.

    Raises:
        ValueError: source or target grid is not square.
    """
    if grid[0] != grid[1]:
        raise ValueError(f"the target grid of {grid[0]} x {grid[1]} patches is not square")
    source, target = _side(len(table) - CLASS_TOKEN_ROWS, "a table of relative positions"), 2 * grid[0] - 1
    if source == target:
        return table
    if source < 5:
        raise ValueError(f"a source grid of {(source + 1) // 2} patches a side is too small for a bicubic spline")
    places = _progression(source // 2, target // 2)
    wanted = np.arange(-(target // 2), target // 2 + 1, dtype=np.float64)
    offsets = table[:-CLASS_TOKEN_ROWS].float().numpy().reshape(source, source, -1)  # float32, official
    heads = [RectBivariateSpline(places, places, offsets[..., head]) for head in range(offsets.shape[2])]
    resized = np.stack([spline(wanted, wanted).ravel() for spline in heads], 1)
    return torch.cat([torch.from_numpy(resized).to(table.dtype), table[-CLASS_TOKEN_ROWS:]])


def _progression(source: int, target: int) -> np.ndarray:
    """Places of the source's offsets -source ... source on the target's scale.

    Steps grow by the factor q with which ``source`` steps reach ``target``, found by halving [1.01, 1.5].
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


def _side(entries: int, name: str) -> int:
    side = math.isqrt(max(entries, 0))
    if side * side != entries or side < 1:
        raise ValueError(f"{name} has {entries} entries besides those of the class token, which is no square")
    return side
