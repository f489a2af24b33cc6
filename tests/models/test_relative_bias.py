import torch
from timm.models.beit import gen_relative_position_index

from conmim_lightning.models.relative_bias import RelativeBias, relative_index, table_side


def test_indices_are_timms():
    assert torch.equal(relative_index(5, 5, 5), gen_relative_position_index((5, 5)))


def test_a_smaller_grid_uses_a_part_of_the_table():
    table = torch.randn((2 * 6 - 1) ** 2 + 3, 2)
    bias = RelativeBias(class_token=False)
    whole = bias(table, 6, 6).view(2, 6, 6, 6, 6)
    torch.testing.assert_close(bias(table, 3, 4).view(2, 3, 4, 3, 4), whole[:, :3, :4, :3, :4])
    assert table_side(table) == 6


def test_indices_of_many_sizes_are_not_cached():
    bias = RelativeBias(class_token=True)
    table = torch.randn((2 * 12 - 1) ** 2 + 3, 2)
    for width in range(2, 12):
        assert bias(table, 3, width).is_contiguous()
    assert len(bias._indices) == 4


def test_a_resized_table_follows_its_original():
    bias = RelativeBias(class_token=True)
    table = torch.nn.Parameter(torch.randn((2 * 4 - 1) ** 2 + 3, 2))
    before = bias(table, 3, 6)
    with torch.no_grad():
        table.mul_(2)
    torch.testing.assert_close(bias(table, 3, 6), 2 * before)
