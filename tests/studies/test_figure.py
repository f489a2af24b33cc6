import numpy as np
from matplotlib.figure import Figure
from PIL import Image
from small_study import small_study, write_small_results

from conmim_lightning.studies import figure
from conmim_lightning.studies.table import collect


def draw(study, folder):
    """Return the axes that were drawn."""
    figures = []
    original = Figure.savefig
    try:
        Figure.savefig = lambda self, *args, **kwargs: (figures.append(self), original(self, *args, **kwargs))[1]
        figure.draw(study, collect(study, folder), folder / "table.png")
    finally:
        Figure.savefig = original
    return [axes for drawn in figures for axes in drawn.axes]


def test_a_point_per_row_and_a_dot_per_seed(tmp_path):
    write_small_results(tmp_path)
    axes, second = draw(small_study(), tmp_path)
    means = {line.get_ydata()[0]: line.get_xdata()[0] for line in axes.lines if line.get_marker() == "D"}
    assert means == {0: 60.0, 1: 30.0}
    dots = sorted(x for line in axes.lines if line.get_marker() == "." for x in line.get_xdata())
    assert np.allclose(dots, [20, 30, 40, 50, 60, 70])
    assert [label.get_text() for label in axes.get_yticklabels()] == ["ours", "random"]
    assert second.get_title() == "at the end"
    with Image.open(tmp_path / "table.png") as image:
        assert image.width > 300


def test_rows_with_x_are_a_curve_and_others_lines(tmp_path):
    write_small_results(tmp_path)
    study = small_study(rows={"ours": {"encoder": "method", "x": 1000}, "random": {}}, x_label="images")
    axes = draw(study, tmp_path)[0]
    assert axes.get_xlabel() == "images"
    assert axes.get_xscale() == "log"
    assert [(list(line.get_xdata()), list(line.get_ydata())) for line in axes.lines if line.get_marker() == "o"] == [
        ([1000], [60.0])
    ]
    assert [text.get_text() for text in axes.get_legend().get_texts()] == ["random"]


def test_nothing_is_drawn_without_results(tmp_path):
    assert draw(small_study(), tmp_path) == []
    assert not (tmp_path / "table.png").exists()
