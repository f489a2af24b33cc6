"""Images with one class map each."""

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Generator, Tensor
from torch.utils.data import default_collate

from conmim_lightning.batches import SegmentationBatch
from conmim_lightning.data.datasets.base import ImageDataset
from conmim_lightning.data.images.pixels import AnyImage
from conmim_lightning.data.sources.base import Source
from conmim_lightning.data.transforms.crop import CenterSquare


class SegmentationDataset(ImageDataset[SegmentationBatch]):
    """Images with class maps: crops for training, whole images or central squares for evaluation.

    An unreadable evaluation image is a single black pixel without a class.

    Args:
        source: source of the images, with or without class maps.
        transform: transform of training images and maps, see ``data.transforms.segmentation``; null if not training.
        square: transform of evaluation images to central squares; null for whole images.
        **others: see ``ImageDataset``.
    """

    def __init__(
        self,
        source: Source,
        *,
        transform: Callable[[Tensor, Tensor, Generator], tuple[Tensor, Tensor]] | None = None,
        square: CenterSquare | None = None,
        **others: Any,
    ) -> None:
        super().__init__(source, **others)
        self.transform = transform
        self.square = square

    def sample(self, image: AnyImage, index: int, requested: int, generator: Generator) -> SegmentationBatch:
        """Return the transformed image and class map."""
        label = _no_label(image.height, image.width)
        if self.source.classes:
            label = self.source.annotation(index, image.height, image.width)
        if self.train:
            assert self.transform is not None
            pixels, label = self.transform(image.whole(), label, generator)
        elif self.square is not None:
            pixels, label = self.square(image), self.square.class_map(label)
        else:
            pixels = image.whole()
        return SegmentationBatch(pixels.contiguous(), label, torch.tensor(requested))

    def empty(self, requested: int) -> SegmentationBatch:
        """Return one black pixel without a class."""
        pixel = torch.zeros(self.decoder.channels, 1, 1, dtype=torch.uint8)
        return SegmentationBatch(pixel, _no_label(1, 1), torch.tensor(requested))

    def check(self, index: int, height: int, width: int) -> NDArray[np.int64]:
        """Return the (K,) number of pixels per class of an image of this size.

        Raises:
            ValueError: the class map is invalid, or no pixel has a class.
            BrokenImageError: the class map cannot be read.
        """
        label = self.source.annotation(index, height, width).numpy()
        counts = np.bincount(label[label >= 0], minlength=len(self.source.classes))
        if not counts.any():
            raise ValueError("no pixel of the class map has a class")
        return counts

    def collate(self, samples: list[SegmentationBatch]) -> SegmentationBatch:
        """Stack training crops; keep evaluation images in a list."""
        if self.train:
            return default_collate(samples)
        images, labels, indices, broken = zip(*samples, strict=True)
        return SegmentationBatch(list(images), list(labels), torch.stack(indices), list(broken))


def _no_label(height: int, width: int) -> Tensor:
    return torch.full((height, width), -1, dtype=torch.int16)
