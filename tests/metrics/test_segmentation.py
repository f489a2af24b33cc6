"""Figures of pixels, by hand and against scikit-learn."""

import pytest
import torch
from sklearn.metrics import jaccard_score

from conmim_lightning.metrics.segmentation import PixelJudge, class_ious, pixel_figures


def test_by_hand():
    """Class 0: 3 pixels of it, 2 taken for it, 2 in both -> 2/3; class 1: 1 of it, 2 taken, 1 in both -> 1/2."""
    judge = PixelJudge(4)
    judge.update([torch.tensor([[0, 0, 1], [1, 2, 3]])], [torch.tensor([[0, 0, 0], [1, 2, -1]])], [""])
    found = judge.figures("val")
    assert float(found["val/miou"]) == pytest.approx((2 / 3 + 1 / 2 + 1) / 3)  # class 3 is neither known nor answered
    assert float(found["val/pixel_accuracy"]) == pytest.approx(4 / 5)
    assert float(found["val/mean_class_accuracy"]) == pytest.approx((2 / 3 + 1 + 1) / 3)


def test_one_matrix_over_all_images():
    """The mean of each image's IoU would be another number."""
    judge = PixelJudge(2)
    answers = [torch.tensor([[0, 0, 0, 1]]), torch.tensor([[1, 1], [1, 1]])]
    labels = [torch.tensor([[0, 0, 0, 0]]), torch.tensor([[1, 1], [1, 0]])]
    judge.update(answers, labels)
    assert float(judge.figures("val")["val/miou"]) == pytest.approx((3 / 5 + 3 / 5) / 2)
    judge.update(answers[:1], labels[:1])
    assert float(judge.figures("val")["val/miou"]) == pytest.approx((3 / 4 + 0) / 2)  # and it began anew


def test_against_scikit_learn():
    torch.manual_seed(0)
    answers, labels = torch.randint(6, (3, 20, 30)), torch.randint(-1, 5, (3, 20, 30))
    judge = PixelJudge(7)
    judge.update(answers, labels)
    table = judge.table()
    known = labels >= 0
    expected = jaccard_score(labels[known], answers[known], average=None, labels=list(range(6)))
    assert class_ious(table)[:6].tolist() == pytest.approx(expected.tolist())
    assert class_ious(table)[6].isnan()
    assert table.sum() == known.sum()


def test_large_counts_stay_exact():
    """Float32 would lose single pixels above 2^24."""
    table = torch.tensor([[2**25, 1], [0, 2**25 + 1]])
    assert float(class_ious(table)[0]) == pytest.approx(2**25 / (2**25 + 1), rel=1e-7)
    assert float(pixel_figures(table)["mean_class_accuracy"]) == pytest.approx(1.0, abs=1e-7)


def test_what_cannot_be_read_is_counted_apart():
    judge = PixelJudge(2)
    judge.update([torch.zeros(1, 1)] * 2, [torch.tensor([[0]]), torch.tensor([[-1]])], ["", "x\treason"])
    assert judge.figures("test")["test/unreadable_images"] == 1
    judge.update([torch.zeros(1, 1)], [torch.tensor([[-1]])], ["x\treason"])
    with pytest.raises(ValueError, match="none of the images of part 'test' can be read"):
        judge.figures("test")
