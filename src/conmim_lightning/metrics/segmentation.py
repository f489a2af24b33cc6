"""What a segmenter is judged by."""

from collections.abc import Iterable

import torch
from torch import Tensor, nn
from torchmetrics import SumMetric
from torchmetrics.classification import MulticlassConfusionMatrix

_CHUNK = 1 << 24  # pixels counted at once


class PixelJudge(nn.Module):
    """Figures of one confusion matrix over a whole part, summed over all devices; pixels without a class are left out.

    "miou": mean over classes of the pixels that are of a class and taken for it, as a share of those that are of it or
    taken for it; classes that neither occur nor are answered are left out. "pixel_accuracy": share of right pixels.
    "mean_class_accuracy": mean over the classes that occur of the share of their pixels that are right.

    Args:
        num_classes: K, >= 2.

    Attributes:
        counted: (K, K) pixels that the last figures are of; None before.
    """

    def __init__(self, num_classes: int) -> None:
        super().__init__()
        self.num_classes = num_classes
        self.confusion = MulticlassConfusionMatrix(num_classes, validate_args=False)
        self.unreadable = SumMetric()
        self.counted: Tensor | None = None

    def update(self, answers: Iterable[Tensor], labels: Iterable[Tensor], broken: Iterable[str] = ()) -> None:
        """Count images.

        Args:
            answers: of each image (H, W) classes.
            labels: of each (H, W) classes, -1 for none.
            broken: a text for each, empty where it could be read.
        """
        self.unreadable.update(sum(map(bool, broken)))
        for answer, label in zip(answers, labels, strict=True):
            known = label >= 0
            for part in zip(answer[known].split(_CHUNK), label[known].split(_CHUNK), strict=True):
                if len(part[0]):
                    self.confusion.update(part[0].long(), part[1].long())

    def reset(self) -> None:
        """Start anew."""
        self.confusion.reset()
        self.unreadable.reset()

    def table(self) -> Tensor:
        """(K, K) pixels over all devices; rows are classes, columns answers."""
        # a device may have seen nothing
        none = torch.zeros(0, dtype=torch.long, device=self.confusion.device)
        self.confusion.update(none, none)
        return self.confusion.compute()

    def figures(self, part: str) -> dict[str, Tensor]:
        """All figures of a part, by "part/name", and start anew.

        Raises:
            ValueError: no pixel of the part has a class.
        """
        self.counted = table = self.table()
        self.unreadable.update(0)
        unreadable = self.unreadable.compute()
        self.reset()
        if not table.sum():
            raise ValueError(f"none of the images of part {part!r} can be read, or none has a pixel with a class")
        found = {f"{part}/{name}": value for name, value in pixel_figures(table).items()}
        return found | ({f"{part}/unreadable_images": unreadable} if unreadable else {})


def class_ious(table: Tensor) -> Tensor:
    """(K,) float32 shares from a (K, K) table of pixels; NaN for classes that neither occur nor are answered."""
    counts = table.double()
    right = counts.diagonal()
    return (right / (counts.sum(0) + counts.sum(1) - right)).float()


def pixel_figures(table: Tensor) -> dict[str, Tensor]:
    """The figures of a (K, K) table of pixels, see ``PixelJudge``."""
    counts = table.double()
    right, of_class = counts.diagonal(), counts.sum(1)
    occurs = of_class > 0
    return {
        "miou": class_ious(table).nanmean(),
        "pixel_accuracy": (right.sum() / counts.sum()).float(),
        "mean_class_accuracy": (right[occurs] / of_class[occurs]).mean().float(),
    }
