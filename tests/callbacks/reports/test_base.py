from types import SimpleNamespace

import pytest
import torch

from conmim_lightning.callbacks.reports.base import DenseReport


class Recorder(DenseReport):
    def __init__(self, *args, **others):
        super().__init__(*args, **others)
        self.added = []

    def add(self, task, name, index, outputs, batch, position, image):
        self.added.append((name, None if image is None else tuple(image.shape)))


def trainer(count):
    data = SimpleNamespace(
        sources={"test": range(count)},
        image_name=lambda split, index: f"{split}{index}",
        pixels=lambda split, index: torch.zeros(1, 4, 4, dtype=torch.uint8),
    )
    return SimpleNamespace(datamodule=data, is_global_zero=True, loggers=[])


def added(count, figures):
    report, run = Recorder("unused", pictures=figures), trainer(count)
    report.on_test_start(run, None)
    outputs = {"index": torch.arange(count)}
    report.on_test_batch_end(run, None, outputs, SimpleNamespace(broken=[""] * (count - 1) + ["cut"]), 0)
    return report.added


def test_images_to_draw_are_evenly_spaced():
    assert [name for name, shape in added(9, 3) if shape] == ["test0", "test3", "test6"]
    assert [shape for _, shape in added(9, 3) if shape] == [(3, 4, 4)] * 3
    assert len(added(9, 0)) == 8, "predictions of all but the broken image"
    assert [name for name, shape in added(3, 50) if shape] == ["test0", "test1"]


def test_images_to_draw_are_among_those_that_are_evaluated():
    report, run = Recorder("unused", pictures=2), trainer(10)
    run.datamodule.eval_limit = 4
    report.on_test_start(run, None)
    assert report._to_draw == {0, 5}, "of the images 0, 2, 5 and 7"


def test_names_of_figures_are_unique():
    report = Recorder("out")
    assert report.figure_path("a/x.jpg", 3) != report.figure_path("b/x.jpg", 4)
    with pytest.raises(ValueError, match="at least 0, got -1"):
        Recorder("out", pictures=-1)
