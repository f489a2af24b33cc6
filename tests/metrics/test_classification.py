import pytest
import torch

from conmim_lightning.metrics.classification import ClassificationMetrics, HeadAccuracy

SCORES = torch.tensor([[0.7, 0.2, 0.1], [0.6, 0.3, 0.1], [0.2, 0.3, 0.5], [0.1, 0.8, 0.1], [0.3, 0.4, 0.3]])
LABELS = torch.tensor([0, 1, 2, 1, -1])


def test_metrics_by_hand():
    """Four images have a class; the second is predicted as class 0. Class means: 1, 1/2, 1."""
    metrics = ClassificationMetrics(3)
    metrics.update(SCORES[:2], LABELS[:2])
    metrics.update(SCORES[2:], LABELS[2:], ["", "", "x\tbroken"])
    values = {name: value.item() for name, value in metrics.compute().items()}
    confidences, correct = [0.7, 0.6, 0.5, 0.8], [1, 0, 1, 1]  # each in a bin of its own
    assert values == pytest.approx(
        {
            "top1": 0.75,
            "top5": 1.0,
            "mean_class_top1": (1 + 0.5 + 1) / 3,
            "calibration_error": sum(abs(c - r) for c, r in zip(confidences, correct, strict=True)) / 4,
            "unreadable_images": 1,
        },
        rel=1e-5,
    )


def test_reset_starts_again():
    metrics = ClassificationMetrics(3)
    metrics.update(SCORES, LABELS)
    metrics.compute()
    metrics.reset()
    metrics.update(SCORES[:1], LABELS[:1])
    assert metrics.compute()["top1"] == 1
    with pytest.raises(ValueError, match="none of the evaluated images can be read, or none has a class"):
        ClassificationMetrics(3).compute()


def test_top5_of_many_classes():
    metrics = ClassificationMetrics(10)
    metrics.update(torch.arange(10.0).softmax(0).expand(4, -1), torch.tensor([9, 5, 4, 0]))
    values = metrics.compute()
    assert values["top5"] == pytest.approx(0.5)
    assert values["top1"] == pytest.approx(0.25)


def test_many_heads_at_once():
    accuracy = HeadAccuracy(2)
    accuracy.update(torch.stack([SCORES, SCORES.flip(1)]), LABELS)
    assert accuracy.compute().tolist() == pytest.approx([0.75, 0.25])


def test_classes_that_do_not_occur_do_not_count():
    """Class 2 never occurs but is predicted once: the mean is over classes 0 and 1."""
    metrics = ClassificationMetrics(3)
    metrics.update(torch.eye(3)[[0, 0, 1, 2]], torch.tensor([0, 0, 1, 1]))
    assert metrics.compute()["mean_class_top1"] == pytest.approx((1 + 0.5) / 2)
