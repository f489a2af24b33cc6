"""Metrics of semantic segmentation."""

from collections.abc import Iterable

import torch
from torch import Tensor, nn
from torchmetrics.classification import MulticlassConfusionMatrix

from conmim_lightning.metrics.unreadable import UnreadableImages

_CHUNK = 1 << 24  # pixels counted at once


class SegmentationMetrics(nn.Module):
    """Metrics of a split from a confusion matrix, summed over all devices; pixels without a class are left out.

    "miou": mean over classes of intersection over union; classes that neither occur nor are predicted are left out.
    "pixel_accuracy": fraction of correct pixels. "mean_class_accuracy": mean over the classes that occur of the
    fraction of their pixels that are correct.

    Args:
        num_classes: K, >= 2.

    Attributes:
        matrix: (K, K) pixel counts of the last ``compute``, rows are classes, columns predictions; None before.
    """

    def __init__(self, num_classes: int) -> None:
        super().__init__()
        self.confusion = MulticlassConfusionMatrix(num_classes, validate_args=False)
        self.unreadable = UnreadableImages()
        self.matrix: Tensor | None = None

    def update(self, predictions: Iterable[Tensor], labels: Iterable[Tensor], broken: Iterable[str] = ()) -> None:
        """Add images.

        Args:
            predictions: (H, W) predicted classes of each image.
            labels: (H, W) annotated classes of each image, -1 = no class.
            broken: one string per image, empty for readable images.
        """
        self.unreadable.count(broken)
        for prediction, label in zip(predictions, labels, strict=True):
            labelled = label >= 0
            for chunk in zip(prediction[labelled].split(_CHUNK), label[labelled].split(_CHUNK), strict=True):
                if len(chunk[0]):
                    self.confusion.update(chunk[0].long(), chunk[1].long())

    def compute(self) -> dict[str, Tensor]:
        """Return all metrics by name.

        Raises:
            ValueError: no pixel has a class.
        """
        none = torch.zeros(0, dtype=torch.long, device=self.confusion.device)
        self.confusion.update(none, none)  # a device may have received no image
        self.matrix = self.confusion.compute()
        unreadable = self.unreadable.as_metric()
        if not self.matrix.sum():
            raise ValueError("none of the evaluated images can be read, or none has a pixel with a class")
        return matrix_metrics(self.matrix) | unreadable

    def reset(self) -> None:
        """Reset all metrics; ``matrix`` is kept."""
        self.confusion.reset()
        self.unreadable.reset()


def class_ious(matrix: Tensor) -> Tensor:
    """Return (K,) float32 IoU of a (K, K) confusion matrix; NaN for classes that neither occur nor are predicted."""
    counts = matrix.double()
    correct = counts.diagonal()
    return (correct / (counts.sum(0) + counts.sum(1) - correct)).float()


def matrix_metrics(matrix: Tensor) -> dict[str, Tensor]:
    """Return the metrics of a (K, K) confusion matrix, see ``SegmentationMetrics``."""
    counts = matrix.double()
    correct, of_class = counts.diagonal(), counts.sum(1)
    occurs = of_class > 0
    return {
        "miou": class_ious(matrix).nanmean(),
        "pixel_accuracy": (correct.sum() / counts.sum()).float(),
        "mean_class_accuracy": (correct[occurs] / of_class[occurs]).mean().float(),
    }
