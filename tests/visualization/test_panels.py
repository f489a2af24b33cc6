import torch

from conmim_lightning.visualization.panels import Panel, draw_grid, limits_of, with_common_limits

IMAGE = torch.rand(8, 8, 3)


def test_a_grid_has_one_row_per_entry_and_a_bar_per_row_with_maps():
    mapped = Panel(IMAGE, "map", torch.rand(2, 2), (0.0, 1.0), "cosine", [(0, 1)], (2, 2), [((0, 0), (1, 1))])
    figure = draw_grid([("a", [Panel(IMAGE, "image"), mapped]), ("b", [Panel(IMAGE)])], "title\nsecond line")
    images, bars = figure.axes[:4], figure.axes[4:]
    assert [axes.get_title() for axes in images] == ["image", "map", "", ""]
    assert [axes.get_ylabel() for axes in bars] == ["cosine"]
    assert images[1].images[1].get_interpolation() == "nearest"
    assert len(images[1].texts) == 1, "an arrow"
    assert images[1].lines[0].get_xydata().tolist() == [[5.5, 1.5]], "the middle of the patch"
    assert not images[3].axison


def test_maps_can_be_interpolated():
    panel = Panel(IMAGE, values=torch.rand(2, 2))
    figure = draw_grid([("", [panel])], "t", interpolate=True)
    assert figure.axes[0].images[1].get_interpolation() == "bilinear"


def test_long_titles_are_wrapped():
    title = draw_grid([("", [Panel(IMAGE)])], "word " * 40).get_suptitle()
    assert max(map(len, title.split("\n"))) <= 60


def test_limits():
    maps = [torch.tensor([0.2, 0.5]), torch.tensor([-0.1])]
    assert limits_of(maps[:1], low=0.0, high=1.0) == (0.0, 1.0)
    assert limits_of(maps, low=0.0) == (torch.tensor(-0.1).item(), 0.5)
    rows = [
        [Panel(IMAGE, values=maps[0], limits=(0.0, 0.5)), Panel(IMAGE)],
        [Panel(IMAGE, values=maps[1], limits=(-0.1, 0.2))],
    ]
    assert {panel.limits for row in with_common_limits(rows) for panel in row} == {(-0.1, 0.5)}
    assert with_common_limits([[Panel(IMAGE)]])[0][0].limits == (0.0, 1.0)
