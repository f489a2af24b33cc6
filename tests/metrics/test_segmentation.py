"""By hand and against scikit-learn."""

import pytest
import torch
from sklearn.metrics import jaccard_score

from conmim_lightning.metrics.segmentation import SegmentationMetrics, class_ious, matrix_metrics


def test_by_hand():
    """Class 0: 3 pixels of it, 2 predicted, 2 in both -> 2/3; class 1: 1 of it, 2 predicted, 1 in both -> 1/2."""
    metrics = SegmentationMetrics(4)
    metrics.update([torch.tensor([[0, 0, 1], [1, 2, 3]])], [torch.tensor([[0, 0, 0], [1, 2, -1]])], [""])
    values = metrics.compute()
    assert float(values["miou"]) == pytest.approx((2 / 3 + 1 / 2 + 1) / 3)  # class 3 neither occurs nor is predicted
    assert float(values["pixel_accuracy"]) == pytest.approx(4 / 5)
    assert float(values["mean_class_accuracy"]) == pytest.approx((2 / 3 + 1 + 1) / 3)


def test_one_matrix_over_all_images():
    """The mean of each image's IoU would be another number."""
    metrics = SegmentationMetrics(2)
    predictions = [torch.tensor([[0, 0, 0, 1]]), torch.tensor([[1, 1], [1, 1]])]
    labels = [torch.tensor([[0, 0, 0, 0]]), torch.tensor([[1, 1], [1, 0]])]
    metrics.update(predictions, labels)
    assert float(metrics.compute()["miou"]) == pytest.approx((3 / 5 + 3 / 5) / 2)
    metrics.reset()
    metrics.update(predictions[:1], labels[:1])
    assert float(metrics.compute()["miou"]) == pytest.approx((3 / 4 + 0) / 2)


def test_against_scikit_learn():
    torch.manual_seed(0)
    predictions, labels = torch.randint(6, (3, 20, 30)), torch.randint(-1, 5, (3, 20, 30))
    metrics = SegmentationMetrics(7)
    metrics.update(predictions, labels)
    metrics.compute()
    matrix = metrics.matrix
    labelled = labels >= 0
    expected = jaccard_score(labels[labelled], predictions[labelled], average=None, labels=list(range(6)))
    assert class_ious(matrix)[:6].tolist() == pytest.approx(expected.tolist())
    assert class_ious(matrix)[6].isnan()
    assert matrix.sum() == labelled.sum()


def test_large_counts_stay_exact():
    """Float32 would lose single pixels above 2^24."""
    matrix = torch.tensor([[2**25, 1], [0, 2**25 + 1]])
    assert float(class_ious(matrix)[0]) == pytest.approx(2**25 / (2**25 + 1), rel=1e-7)
    assert float(matrix_metrics(matrix)["mean_class_accuracy"]) == pytest.approx(1.0, abs=1e-7)


def test_unreadable_images_are_counted_separately():
    metrics = SegmentationMetrics(2)
    metrics.update([torch.zeros(1, 1)] * 2, [torch.tensor([[0]]), torch.tensor([[-1]])], ["", "x\treason"])
    assert metrics.compute()["unreadable_images"] == 1
    metrics.reset()
    metrics.update([torch.zeros(1, 1)], [torch.tensor([[-1]])], ["x\treason"])
    with pytest.raises(ValueError, match="none of the evaluated images can be read"):
        metrics.compute()
