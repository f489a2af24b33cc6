"""What a classifier is judged by."""

from collections.abc import Iterable, Sequence
from typing import cast

import torch
from torch import Tensor, nn
from torchmetrics import Metric, MetricCollection, SumMetric
from torchmetrics.classification import MulticlassAccuracy, MulticlassCalibrationError, MulticlassStatScores

_BINS = 15


class Judge(nn.Module):
    """Shares of right answers over a whole part, each image counted once over all devices.

    "top1", "top5", "mean_class_top1" (mean over the classes that occur), and "calibration_error": the mean distance
    between confidence and share of right answers, over 15 bins of confidence (Guo et al. 2017, arXiv 1706.04599). Below
    five classes "top5" counts as many answers as there are classes. Images without a class (-1) are left out.

    Args:
        num_classes: K, >= 2.
        parts: names of the parts to judge.
    """

    def __init__(self, num_classes: int, parts: Sequence[str] = ("val", "test")) -> None:
        super().__init__()
        self.metrics = nn.ModuleDict({f"of_{part}": _metrics(num_classes) for part in parts})
        self.counts = nn.ModuleDict(
            {f"{kind}_{part}": SumMetric() for part in parts for kind in ("known", "unreadable")}
        )

    def update(self, part: str, scores: Tensor, labels: Tensor, broken: Iterable[str] = ()) -> None:
        """Count a batch.

        Args:
            part: one of the parts.
            scores: (B, K) probabilities.
            labels: (B,) classes, -1 where there is none.
            broken: B texts, empty for images that could be read.
        """
        known = labels >= 0
        cast(SumMetric, self.counts[f"known_{part}"]).update(known.sum())
        cast(SumMetric, self.counts[f"unreadable_{part}"]).update(sum(map(bool, broken)))
        if known.any():
            cast(MetricCollection, self.metrics[f"of_{part}"]).update(scores[known], labels[known])

    def figures(self, part: str) -> dict[str, Tensor]:
        """All figures of a part, by "part/name", and start anew.

        Raises:
            ValueError: no image of the part could be read, or none has a class.
        """
        known, unreadable = (self._count(f"{kind}_{part}") for kind in ("known", "unreadable"))
        if not known:
            raise ValueError(f"none of the images of part {part!r} can be read, or none has a class")
        metrics = cast(MetricCollection, self.metrics[f"of_{part}"])
        found = {f"{part}/{name}": value.float() for name, value in metrics.compute().items()}
        metrics.reset()
        return found | ({f"{part}/unreadable_images": unreadable} if unreadable else {})

    def _count(self, name: str) -> Tensor:
        counter = cast(SumMetric, self.counts[name])
        counter.update(0)  # a device may have seen nothing
        total = counter.compute()
        counter.reset()
        return total


def _metrics(num_classes: int) -> MetricCollection:
    metrics: dict[str, Metric | MetricCollection] = {
        "top1": MulticlassAccuracy(num_classes, average="micro"),
        "top5": MulticlassAccuracy(num_classes, average="micro", top_k=min(5, num_classes)),
        "mean_class_top1": MeanClassAccuracy(num_classes),
        "calibration_error": MulticlassCalibrationError(num_classes, n_bins=_BINS),
    }
    return MetricCollection(metrics, compute_groups=False)


class MeanClassAccuracy(MulticlassStatScores):
    """Mean of the classes' shares of right answers, over the classes that occur.

    torchmetrics' macro average counts a class that never occurs as 0 once it has been answered.

    Args:
        num_classes: number of classes.
    """

    def __init__(self, num_classes: int) -> None:
        super().__init__(num_classes, average=None)

    def compute(self) -> Tensor:
        """Share, 0 to 1."""
        right, _, _, _, images = super().compute().float().T
        return (right[images > 0] / images[images > 0]).mean()


class HeadAccuracy(Metric):
    """Share of right answers of many classifiers at once.

    Shapes: M classifiers, B images, K classes.

    Args:
        num_heads: M.
    """

    full_state_update = False
    right: Tensor
    seen: Tensor

    def __init__(self, num_heads: int) -> None:
        super().__init__()
        self.add_state("right", torch.zeros(num_heads), dist_reduce_fx="sum")
        self.add_state("seen", torch.tensor(0.0), dist_reduce_fx="sum")

    def update(self, scores: Tensor, labels: Tensor) -> None:
        """Add (M, B, K) scores of images with (B,) labels; -1 is left out."""
        self.right += ((scores.argmax(-1) == labels) & (labels >= 0)).sum(1)
        self.seen += (labels >= 0).sum()

    def compute(self) -> Tensor:
        """(M,) shares, 0 to 1."""
        return self.right / self.seen.clamp(min=1)
