"""Images with one class label each."""

from typing import Any

import torch
from torch import Generator

from conmim_lightning.batches import LabelledBatch
from conmim_lightning.data.datasets.base import ImageDataset
from conmim_lightning.data.images.pixels import AnyImage
from conmim_lightning.data.sources.base import Source
from conmim_lightning.data.transforms.classification import ClassificationTransform


class ClassificationDataset(ImageDataset[LabelledBatch]):
    """Transformed images with their classes; an unreadable evaluation image is black and has the class -1.

    Args:
        source: source of the images, with or without labels.
        transform: transform of the images.
        size: pixels per side of the transformed image.
        **others: see ``ImageDataset``.
    """

    def __init__(self, source: Source, *, transform: ClassificationTransform, size: int, **others: Any) -> None:
        super().__init__(source, **others)
        self.transform = transform
        self.size = size

    def sample(self, image: AnyImage, index: int, requested: int, generator: Generator) -> LabelledBatch:
        """Return the transformed image and its class."""
        label = self.source.label(index) if self.source.classes else -1
        return LabelledBatch(self.transform(image, generator), torch.tensor(label), torch.tensor(requested))

    def empty(self, requested: int) -> LabelledBatch:
        """Return a black image without a class."""
        black = torch.zeros(self.decoder.channels, self.size, self.size, dtype=torch.uint8)
        return LabelledBatch(black, torch.tensor(-1), torch.tensor(requested))
