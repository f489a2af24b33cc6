import pytest
import torch

from conmim_lightning.metrics.classification import HeadAccuracy, Judge

SCORES = torch.tensor([[0.7, 0.2, 0.1], [0.6, 0.3, 0.1], [0.2, 0.3, 0.5], [0.1, 0.8, 0.1], [0.3, 0.4, 0.3]])
LABELS = torch.tensor([0, 1, 2, 1, -1])


def test_figures_by_hand():
    """Four images have a class; the second is taken for class 0. Class means: 1, 1/2, 1."""
    judge = Judge(3)
    judge.update("val", SCORES[:2], LABELS[:2])
    judge.update("val", SCORES[2:], LABELS[2:], ["", "", "x\tbroken"])
    found = {name: value.item() for name, value in judge.figures("val").items()}
    confidences, right = [0.7, 0.6, 0.5, 0.8], [1, 0, 1, 1]  # each falls into a bin of its own
    assert found == pytest.approx(
        {
            "val/top1": 0.75,
            "val/top5": 1.0,
            "val/mean_class_top1": (1 + 0.5 + 1) / 3,
            "val/calibration_error": sum(abs(c - r) for c, r in zip(confidences, right, strict=True)) / 4,
            "val/unreadable_images": 1,
        },
        rel=1e-5,
    )


def test_each_part_starts_anew():
    judge = Judge(3)
    judge.update("test", SCORES, LABELS)
    judge.figures("test")
    judge.update("test", SCORES[:1], LABELS[:1])
    assert judge.figures("test")["test/top1"] == 1
    with pytest.raises(ValueError, match="none of the images of part 'val'"):
        judge.figures("val")


def test_top5_of_many_classes():
    judge = Judge(10)
    judge.update("val", torch.arange(10.0).softmax(0).expand(4, -1), torch.tensor([9, 5, 4, 0]))
    figures = judge.figures("val")
    assert figures["val/top5"] == pytest.approx(0.5)
    assert figures["val/top1"] == pytest.approx(0.25)


def test_many_heads_at_once():
    accuracy = HeadAccuracy(2)
    accuracy.update(torch.stack([SCORES, SCORES.flip(1)]), LABELS)
    assert accuracy.compute().tolist() == pytest.approx([0.75, 0.25])


def test_classes_that_do_not_occur_do_not_count():
    """Class 2 never occurs but is answered once: the mean is over classes 0 and 1."""
    judge = Judge(3)
    judge.update("val", torch.eye(3)[[0, 0, 1, 2]], torch.tensor([0, 0, 1, 1]))
    assert judge.figures("val")["val/mean_class_top1"] == pytest.approx((1 + 0.5) / 2)
