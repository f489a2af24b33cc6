import math

import pytest
import torch
from PIL import Image
from pretraining import held_out_batch, make_task

from conmim_lightning.callbacks.reports import pretrain_figure
from conmim_lightning.callbacks.reports.image_rows import image_rows
from conmim_lightning.callbacks.reports.pretrain_figure import draw_report, overlay, row_picture

CURVES = [{"step": step, "train/loss": 3.0 - step / 10, "train/retrieval_top1": 0.1} for step in range(4)]
PROBES = [
    {
        "step": 0,
        "val/dense_auroc_class": 0.501,
        "val/dense_auroc_class_start": 0.501,
        "val/dense_auroc_class_error": 0.01,
    },
    {"step": 3, "val/dense_auroc_class": 0.506, "val/dense_auroc_class_error": 0.01},
]


def rows():
    task = make_task()
    return image_rows(task, held_out_batch(task.model), None)


@pytest.fixture
def figures(monkeypatch):
    """Figures that are drawn."""
    made = []
    original = pretrain_figure.Figure

    def make(*args, **others):
        made.append(original(*args, **others))
        return made[-1]

    monkeypatch.setattr(pretrain_figure, "Figure", make)
    return made


def test_axes_start_at_chance_and_errors_are_stated(tmp_path, figures):
    draw_report(tmp_path / "x.png", CURVES, PROBES, [], title="mine", patches=36, candidates=36)
    loss, retrieval, probe = figures[0].axes
    low, high = probe.get_ylim()
    assert low < 50 < low + 10 < high, "noise of half a point does not fill the axis"
    labels = [text.get_text() for text in probe.get_legend().get_texts()]
    assert "teacher, ± 2 standard errors" in labels
    assert "chance" in labels
    chance = next(line for line in loss.lines if line.get_label() == "chance, ln 36")
    assert chance.get_ydata()[0] == pytest.approx(math.log(36))
    assert retrieval.get_ylim()[0] == 0
    assert figures[0].get_suptitle() == "mine"


def test_legends_lie_above_the_curves(tmp_path, figures):
    draw_report(tmp_path / "x.png", CURVES, PROBES, [])
    for axes in figures[0].axes:
        assert axes.get_legend().get_window_extent().y0 >= axes.get_window_extent().y1 - 1


def test_the_figure_is_drawn_with_and_without_images(tmp_path):
    images = rows()
    draw_report(tmp_path / "all.png", CURVES, PROBES, images)
    draw_report(tmp_path / "curves.png", CURVES, [], [])
    draw_report(tmp_path / "nothing.png", [], [], [])
    with Image.open(tmp_path / "all.png") as figure, Image.open(tmp_path / "curves.png") as curves_only:
        assert figure.width == curves_only.width, "the width of two columns of a paper"
        assert figure.height > 2 * curves_only.height


def test_a_row_alone_is_an_image():
    images = rows()
    mapped = images[0]._replace(object_map=torch.rand(images[0].mask.shape))
    for image in (images[0], mapped):
        picture = row_picture(image)
        assert picture.shape[2] == 3
        assert len(set(picture.flatten().tolist())) > 50


def test_maps_lie_over_their_image():
    from matplotlib.figure import Figure

    axis = Figure().add_subplot()
    drawn = overlay(axis, torch.rand(12, 18, 3), torch.rand(2, 3), 0.0, 1.0)
    assert drawn.get_extent() == [-0.5, 17.5, 11.5, -0.5]
    assert drawn.get_clim() == (0.0, 1.0)
