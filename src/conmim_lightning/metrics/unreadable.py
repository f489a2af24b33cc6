"""Count of the images that evaluation leaves out because they cannot be read."""

from collections.abc import Iterable

from torch import Tensor
from torchmetrics import SumMetric


class UnreadableImages(SumMetric):
    """Number of images that could not be read, over all devices; reported only if it is not 0."""

    def count(self, broken: Iterable[str]) -> None:
        """Count a batch: one string per image, empty if it was readable."""
        self.update(sum(map(bool, broken)))

    def as_metric(self) -> dict[str, Tensor]:
        """Return "unreadable_images", or nothing if all images were readable."""
        self.update(0)  # a device may have received no image
        total: Tensor = self.compute()
        return {"unreadable_images": total} if total else {}
