"""Images with class maps as samples and batches."""

from typing import Any

import torch
from torch import Generator, Tensor
from torch.utils.data import default_collate

from conmim_lightning.batches import SegmentationBatch
from conmim_lightning.data.annotated import AnnotatedImages


class SegmentedImages(AnnotatedImages[SegmentationBatch]):
    """Crops to train on; whole images, as they are, to evaluate. An image that cannot be read then is one grey pixel.

    Args:
        source: images with class maps, or without.
        transform: of training images and maps, see ``data.transforms.segmentation``.
        settings: the other arguments of ``AnnotatedImages``.
    """

    def __init__(self, source: Any, *, transform: Any, **settings: Any) -> None:
        super().__init__(source, **settings)
        self.transform = transform

    def sample(self, picture: Any, shown: int, asked: int, drawn: Generator, faults: str) -> SegmentationBatch:
        """Image and map, transformed where they are to train on."""
        image, label = picture.whole(), _no_label(picture.height, picture.width)
        if self.source.classes:
            label = self.source.annotation(shown, *image.shape[1:])  # type: ignore[attr-defined]
        if self.train:
            image, label = self.transform(image, label, drawn)
        return SegmentationBatch(image.contiguous(), label, torch.tensor(asked), faults)

    def empty(self, asked: int, fault: str) -> SegmentationBatch:
        """One pixel without a class."""
        image = torch.zeros(self.decoder.channels, 1, 1, dtype=torch.uint8)
        return SegmentationBatch(image, _no_label(1, 1), torch.tensor(asked), fault)

    def check(self, index: int, height: int, width: int) -> None:
        """Read the class map."""
        known: Any = self.source
        known.annotation(index, height, width)

    def collate(self, samples: list[SegmentationBatch]) -> SegmentationBatch:
        """Crops in one tensor; whole images in a list."""
        if self.train:
            return default_collate(samples)
        images, labels, indices, broken = zip(*samples, strict=True)
        return SegmentationBatch(list(images), list(labels), torch.stack(indices), list(broken))


def _no_label(height: int, width: int) -> Tensor:
    return torch.full((height, width), -1, dtype=torch.int16)
