"""Masking of random square units, as in the published recipe; units of one patch give uniform masking."""

import math

import torch
from torch import Generator, Tensor


def check_ratio(ratio: float) -> None:
    """Raise ValueError unless 0 < ratio < 1."""
    if not 0 < ratio < 1:
        raise ValueError(f"mask ratio must lie strictly between 0 and 1, got {ratio}")


class RandomUnitMasking:
    """Hide ceil(ratio * units) of the square units that tile the patch grid, chosen uniformly.

    official: 32-pixel units over 16-pixel patches at 224 pixels, ratio 0.75: 37 of 49 units, 148 of 196 patches.

    Args:
        grid_size: patches per side of the square image.
        unit_size: patches per side of a unit, which must divide grid_size; 1 hides single patches uniformly.
        ratio: fraction of the units to hide, in (0, 1).

    Raises:
        ValueError: the grid does not divide into units, the ratio is out of range, or every unit would be hidden.
    """

    def __init__(self, *, grid_size: int = 14, unit_size: int = 2, ratio: float = 0.75) -> None:
        check_ratio(ratio)
        if unit_size < 1 or grid_size < 1 or grid_size % unit_size:
            raise ValueError(
                f"unit_size={unit_size} does not divide a grid of {grid_size} x {grid_size} patches; allowed are "
                f"{[n for n in range(1, grid_size + 1) if grid_size % n == 0]}"
            )
        self.grid_size = grid_size
        self.unit_size = unit_size
        self.units_per_side = grid_size // unit_size
        # differs from official: 0.56 * 25 is 14 here, not 14.000000000000002, of which the ceiling is 15
        self.hidden_units = math.ceil(round(ratio * self.units_per_side**2, 9))
        if self.hidden_units == self.units_per_side**2:
            raise ValueError(f"mask ratio {ratio} hides all {self.hidden_units} units of the grid; leave at least one")
        self.num_hidden = self.hidden_units * unit_size**2

    def __call__(self, generator: Generator) -> Tensor:
        """Sample one mask: (grid_size, grid_size) bool, True = hidden."""
        units = torch.zeros(self.units_per_side**2, dtype=torch.bool)
        units[torch.randperm(len(units), generator=generator)[: self.hidden_units]] = True
        side = units.view(self.units_per_side, self.units_per_side)
        return side.repeat_interleave(self.unit_size, 0).repeat_interleave(self.unit_size, 1)
