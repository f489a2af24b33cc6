import pytest
import torch

from conmim_lightning.weights.positions import fit_positions, resize_table

SHARED = "rel_pos_bias.relative_position_bias_table"


def test_the_same_grid_changes_nothing():
    table = torch.randn(11 * 11 + 3, 2)
    assert torch.equal(resize_table(table, (6, 6)), table)


def test_constant_values_and_the_class_token_are_kept():
    table = torch.cat([torch.full((11 * 11, 2), 0.7), torch.randn(3, 2)])
    larger = resize_table(table, (10, 10))
    assert larger.shape == (19 * 19 + 3, 2)
    torch.testing.assert_close(larger[:-3], torch.full((19 * 19, 2), 0.7))
    assert torch.equal(larger[-3:], table[-3:])


def test_offset_zero_keeps_its_value():
    table = torch.randn(27 * 27 + 3, 1)
    larger = resize_table(table, (24, 24))
    torch.testing.assert_close(larger[:-3].view(47, 47)[23, 23], table[:-3].view(27, 27)[13, 13])


def test_symmetric_tables_stay_symmetric():
    half = torch.randn(11, 11)
    table = torch.cat([(half + half.flip(0, 1)).view(-1, 1), torch.zeros(3, 1)])
    larger = resize_table(table, (9, 9))[:-3].view(17, 17)
    torch.testing.assert_close(larger, larger.flip(0, 1), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize(
    ("rows", "grid", "message"),
    [
        (124, (6, 8), "6 x 8 patches is not square"),
        (11 * 13 + 3, (6, 6), "143 entries"),
        (3 * 3 + 3, (6, 6), "too small"),
    ],
)
def test_grids_that_cannot_be_resized(rows, grid, message):
    with pytest.raises(ValueError, match=message):
        resize_table(torch.zeros(rows, 2), grid)


def test_a_shared_table_becomes_one_per_block():
    shared = torch.randn(124, 2)
    model = {f"blocks.{block}.attn.relative_position_bias_table": torch.zeros(124, 2) for block in range(3)}
    result = fit_positions({SHARED: shared}, model, (6, 6))
    assert result.keys() == model.keys()
    assert all(torch.equal(table, shared) for table in result.values())
    assert len({table.data_ptr() for table in result.values()}) == 3


def test_a_shared_table_stays_shared():
    result = fit_positions({SHARED: torch.ones(124, 2)}, {SHARED: torch.zeros(364, 2)}, (10, 10))
    assert result[SHARED].shape == (364, 2)


def test_absolute_positions_are_resized_too():
    result = fit_positions({"pos_embed": torch.ones(1, 1 + 16, 4)}, {"pos_embed": torch.zeros(1, 1 + 64, 4)}, (8, 8))
    torch.testing.assert_close(result["pos_embed"], torch.ones(1, 65, 4))
    with pytest.raises(ValueError, match="pos_embed has 18 entries"):
        fit_positions({"pos_embed": torch.ones(1, 19, 4)}, {"pos_embed": torch.zeros(1, 65, 4)}, (8, 8))
