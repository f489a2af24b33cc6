import math

import pytest
import torch

from conmim_lightning.masking.random_units import RandomUnitMasking
from conmim_lightning.rng import generator


def test_the_recipe_hides_148_of_196():
    masking = RandomUnitMasking(grid_size=14, unit_size=2, ratio=0.75)
    mask = masking(generator(0, 0, 0))
    assert mask.shape == (14, 14)
    assert mask.dtype == torch.bool
    assert mask.sum() == masking.num_hidden == 148
    units = mask.unfold(0, 2, 2).unfold(1, 2, 2).flatten(2)
    assert (units.all(2) | ~units.any(2)).all()


@pytest.mark.parametrize("grid_size", [4, 6, 8, 12, 14])
@pytest.mark.parametrize("unit_size", [1, 2])
@pytest.mark.parametrize("ratio", [0.05, 0.3, 0.5, 0.6, 0.74])
def test_counts_are_exact(grid_size, unit_size, ratio):
    masking = RandomUnitMasking(grid_size=grid_size, unit_size=unit_size, ratio=ratio)
    wanted = math.ceil(ratio * (grid_size // unit_size) ** 2) * unit_size**2
    for index in range(5):
        assert masking(generator(0, 0, index)).sum() == wanted


def test_every_unit_is_equally_likely():
    masking = RandomUnitMasking(grid_size=4, unit_size=2, ratio=0.5)
    fraction = torch.stack([masking(generator(0, 0, index)).float() for index in range(4000)]).mean(0)
    assert (fraction - 0.5).abs().max() < 0.04


@pytest.mark.parametrize("ratio", [0, 1, -0.1, 1.2, float("nan")])
def test_ratio_out_of_range(ratio):
    with pytest.raises(ValueError, match="between 0 and 1"):
        RandomUnitMasking(grid_size=4, unit_size=1, ratio=ratio)


def test_grid_that_does_not_divide():
    with pytest.raises(ValueError, match=r"unit_size=2 does not .* 15 x 15 patches; allowed are \[1, 3, 5, 15\]"):
        RandomUnitMasking(grid_size=15, unit_size=2, ratio=0.5)


def test_hiding_everything():
    with pytest.raises(ValueError, match="hides all 4 units"):
        RandomUnitMasking(grid_size=4, unit_size=2, ratio=0.9)


@pytest.mark.parametrize(("ratio", "grid", "hidden"), [(0.56, 5, 14), (0.07, 10, 7), (0.75, 7, 37), (0.561, 5, 15)])
def test_rounding_of_the_ratio_hides_no_further_unit(ratio, grid, hidden):
    assert RandomUnitMasking(grid_size=grid, unit_size=1, ratio=ratio).num_hidden == hidden
