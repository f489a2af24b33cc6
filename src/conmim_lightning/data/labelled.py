"""Labelled images for downstream tasks."""

from typing import Any

import torch
from torch import Generator

from conmim_lightning.batches import LabelledBatch
from conmim_lightning.data.annotated import AnnotatedImages
from conmim_lightning.data.sources import Source


class LabelledImages(AnnotatedImages[LabelledBatch]):
    """Images with their class; an image that cannot be read to evaluate is black, with the class -1.

    Args:
        source: images, labelled or not.
        transform: takes a picture and a generator, gives (C, size, size) uint8.
        size: side of what the transform gives.
        settings: the other arguments of ``AnnotatedImages``.
    """

    def __init__(self, source: Source, *, transform: Any, size: int, **settings: Any) -> None:
        super().__init__(source, **settings)
        self.transform = transform
        self.size = size

    def sample(self, picture: Any, shown: int, asked: int, drawn: Generator, faults: str) -> LabelledBatch:
        """The transformed image and its class."""
        label = self.source.label(shown) if self.source.classes else -1
        image = self.transform(picture, drawn)
        return LabelledBatch(image, torch.tensor(label), torch.tensor(asked), faults)

    def empty(self, asked: int, fault: str) -> LabelledBatch:
        """Black, without a class."""
        black = torch.zeros(self.decoder.channels, self.size, self.size, dtype=torch.uint8)
        return LabelledBatch(black, torch.tensor(-1), torch.tensor(asked), fault)
