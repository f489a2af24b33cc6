import torch
from PIL import Image
from pretraining import drawn, make_task

from conmim_lightning.batches import PretrainBatch
from conmim_lightning.callbacks.reports.pretrain_figure import draw_report, image_rows
from conmim_lightning.perturbation.draw import PerturbationDraw
from conmim_lightning.rng import generator


def rows():
    task = make_task()
    _, mask = drawn(task.model, 2)
    parameters = torch.stack([PerturbationDraw()(generator(0, 0, index)) for index in range(2)])
    crop = torch.randint(0, 256, (2, 3, 32, 32), dtype=torch.uint8)
    with torch.no_grad():
        return image_rows(task, PretrainBatch(crop, parameters, mask, torch.arange(2), ["", ""]), None), mask


def test_a_row_shows_a_hidden_patch_and_its_similarities():
    for row, mask in zip(*rows(), strict=True):
        y, x = row.query
        assert mask[y, x], "the query is a hidden patch"
        assert row.similarity.shape == mask.shape
        assert row.similarity.abs().max() <= 1 + 1e-5
        assert row.student_view.shape == row.teacher_view.shape == (32, 32, 3)
        side = 8
        assert (row.student_view[y * side : (y + 1) * side, x * side : (x + 1) * side] == 0.5).all(), "hidden is grey"
        assert row.object_map is None


def test_the_figure_is_drawn_with_and_without_probes(tmp_path):
    curves = [{"step": step, "train/loss": 3.0 - step / 10, "train/retrieval_top1": 0.1} for step in range(4)]
    probes = [
        {"step": 0, "val/knn_top1": 0.2, "val/knn_top1_start": 0.2, "val/knn_top1_pixels": 0.3},
        {"step": 3, "val/knn_top1": 0.4},
    ]
    draw_report(tmp_path / "all.png", curves, probes, rows()[0])
    draw_report(tmp_path / "curves.png", curves, [], [])
    draw_report(tmp_path / "nothing.png", [], [], [])
    with Image.open(tmp_path / "all.png") as figure, Image.open(tmp_path / "curves.png") as curves_only:
        assert figure.height == 3 * curves_only.height
