import pytest
import torch

from conmim_lightning.masking.block import BlockMasking
from conmim_lightning.rng import generator


@pytest.mark.parametrize(("grid_size", "num_hidden"), [(14, 75), (14, 195), (14, 1), (6, 18), (8, 40)])
def test_counts_are_exact(grid_size, num_hidden):
    masking = BlockMasking(grid_size=grid_size, num_hidden=num_hidden)
    for index in range(20):
        mask = masking(generator(0, 0, index))
        assert mask.shape == (grid_size, grid_size)
        assert mask.sum() == num_hidden


def test_hidden_patches_lie_in_blocks():
    # Of 75 hidden patches at random about 38 % of the neighbours would be hidden too; in blocks far more are.
    masking = BlockMasking(grid_size=14, num_hidden=75)
    masks = torch.stack([masking(generator(0, 0, index)) for index in range(50)])
    right_of_hidden = masks[:, :, 1:][masks[:, :, :-1]].float().mean()
    assert right_of_hidden > 0.7


def test_the_generator_decides():
    masking = BlockMasking(grid_size=14, num_hidden=75)
    assert torch.equal(masking(generator(0, 0, 1)), masking(generator(0, 0, 1)))
    assert not torch.equal(masking(generator(0, 0, 1)), masking(generator(0, 0, 2)))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"num_hidden": 0}, "between 1 and 195"),
        ({"num_hidden": 196}, "196"),
        ({"min_block": 0}, "min_block"),
        ({"min_aspect": 0.0}, "min_aspect"),
    ],
)
def test_bad_arguments(changes, message):
    with pytest.raises(ValueError, match=message):
        BlockMasking(**({"grid_size": 14, "num_hidden": 75} | changes))
