import pytest

from conmim_lightning.reporting.gauges import GAUGES, gauge_of


@pytest.mark.parametrize(
    ("name", "part"),
    [
        ("train/key_rank", "Effective rank"),
        ("val/knn_top5_pixels", "k-NN"),
        ("val/dense_auroc_class_error", "0.5 is chance"),
        ("test/miou", "Segmentation"),
        ("test/box_ap50", "Average precision"),
    ],
)
def test_names_with_their_meaning(name, part):
    assert part in gauge_of(name).meaning


def test_an_unknown_metric_has_none():
    assert gauge_of("train/losses") is None


def test_every_logged_metric_has_a_gauge(finished_run):
    trainer, _ = finished_run
    assert not [name for name in trainer.callback_metrics if gauge_of(name) is None]
    assert all(gauge.meaning.endswith(".") and gauge.healthy.endswith(".") for gauge in GAUGES)
