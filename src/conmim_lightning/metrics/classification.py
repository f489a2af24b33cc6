"""Metrics of classification."""

from collections.abc import Iterable

import torch
from torch import Tensor, nn
from torchmetrics import Metric, MetricCollection, SumMetric
from torchmetrics.classification import MulticlassAccuracy, MulticlassCalibrationError, MulticlassStatScores

from conmim_lightning.metrics.unreadable import UnreadableImages

_BINS = 15


class ClassificationMetrics(nn.Module):
    """Accuracies and calibration error of a split; each image is counted once over all devices.

    Metrics: "top1", "top5", "mean_class_top1" (mean over the classes that occur), "calibration_error": the expected
    calibration error over 15 bins of confidence (Guo et al. 2017, arXiv 1706.04599). With fewer than five classes
    "top5" uses all of them. Images without a class (-1) are left out.

    Args:
        num_classes: K, >= 2.
    """

    def __init__(self, num_classes: int) -> None:
        super().__init__()
        metrics: dict[str, Metric | MetricCollection] = {
            "top1": MulticlassAccuracy(num_classes, average="micro"),
            "top5": MulticlassAccuracy(num_classes, average="micro", top_k=min(5, num_classes)),
            "mean_class_top1": MeanClassAccuracy(num_classes),
            "calibration_error": MulticlassCalibrationError(num_classes, n_bins=_BINS),
        }
        self.metrics = MetricCollection(metrics, compute_groups=False)
        self.labelled = SumMetric()
        self.unreadable = UnreadableImages()

    def update(self, scores: Tensor, labels: Tensor, broken: Iterable[str] = ()) -> None:
        """Add a batch.

        Args:
            scores: (B, K) probabilities.
            labels: (B,) classes, -1 = no class.
            broken: B strings, empty for readable images.
        """
        labelled = labels >= 0
        self.labelled.update(labelled.sum())
        self.unreadable.count(broken)
        if labelled.any():
            self.metrics.update(scores[labelled], labels[labelled])

    def compute(self) -> dict[str, Tensor]:
        """Return all metrics by name.

        Raises:
            ValueError: no image could be read, or none has a class.
        """
        self.labelled.update(0)  # a device may have received no image
        unreadable = self.unreadable.as_metric()
        if not self.labelled.compute():
            raise ValueError("none of the evaluated images can be read, or none has a class")
        return {name: value.float() for name, value in self.metrics.compute().items()} | unreadable

    def reset(self) -> None:
        """Reset all metrics."""
        for metric in (self.metrics, self.labelled, self.unreadable):
            metric.reset()


class MeanClassAccuracy(MulticlassStatScores):
    """Mean of the per-class accuracies, over the classes that occur.

    torchmetrics' macro average counts a class that never occurs as 0 once it has been predicted.

    Args:
        num_classes: number of classes.
    """

    def __init__(self, num_classes: int) -> None:
        super().__init__(num_classes, average=None)

    def compute(self) -> Tensor:
        """Return the mean, 0 to 1."""
        correct, _, _, _, images = super().compute().float().T
        return (correct[images > 0] / images[images > 0]).mean()


class HeadAccuracy(Metric):
    """Top-1 accuracy of many classifiers at once.

    Shapes: M classifiers, B images, K classes.

    Args:
        num_heads: M.
    """

    full_state_update = False
    correct: Tensor
    total: Tensor

    def __init__(self, num_heads: int) -> None:
        super().__init__()
        self.add_state("correct", torch.zeros(num_heads), dist_reduce_fx="sum")
        self.add_state("total", torch.tensor(0.0), dist_reduce_fx="sum")

    def update(self, scores: Tensor, labels: Tensor) -> None:
        """Add (M, B, K) scores of images with (B,) labels; images with label -1 are left out."""
        self.correct += ((scores.argmax(-1) == labels) & (labels >= 0)).sum(1)
        self.total += (labels >= 0).sum()

    def compute(self) -> Tensor:
        """Return (M,) accuracies, 0 to 1."""
        return self.correct / self.total.clamp(min=1)
