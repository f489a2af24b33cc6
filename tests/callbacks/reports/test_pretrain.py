import math

import pytest
from callback_runs import callback_of
from PIL import Image

from conmim_lightning.callbacks.reports.pretrain import PretrainReport


def test_the_report_is_a_figure(finished_run):
    _, folder = finished_run
    with Image.open(folder / "report.png") as figure:
        assert figure.width >= 1000
        assert len(set(figure.convert("L").tobytes())) > 50


def test_curves_have_no_gaps(finished_run):
    trainer, _ = finished_run
    curves = callback_of(trainer, PretrainReport).curves
    assert [entry["step"] for entry in curves] == [1, 2, 4, 6, 8, 10, 12]
    assert all(math.isfinite(entry["train/loss"]) for entry in curves)


def test_curves_continue_after_a_resume():
    report, resumed = PretrainReport("x"), PretrainReport("x")
    report.curves = [{"step": 2, "train/loss": 1.0}]
    resumed.load_state_dict(report.state_dict())
    assert resumed.curves == report.curves


def test_bad_number_of_images():
    with pytest.raises(ValueError, match="num_images of the report must be at least 1, got 0"):
        PretrainReport("x", num_images=0)
