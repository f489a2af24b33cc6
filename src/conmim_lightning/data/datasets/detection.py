"""Images with objects."""

from collections.abc import Callable
from typing import Any, cast

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Generator, Tensor
from torch.utils.data import default_collate

from conmim_lightning.batches import DetectionBatch, Objects
from conmim_lightning.data.datasets.base import ImageDataset
from conmim_lightning.data.datasets.coco_masks import decode_masks
from conmim_lightning.data.images.pixels import AnyImage
from conmim_lightning.data.sources.base import Source
from conmim_lightning.data.sources.object_annotations import ObjectAnnotations
from conmim_lightning.data.transforms.detection import FitSquare


class DetectionDataset(ImageDataset[DetectionBatch]):
    """Square images with objects, in coordinates of the square (training) or of the image file (evaluation).

    An unreadable evaluation image is a black square without objects.

    Args:
        source: source of the images, with or without objects.
        transform: transform of training images, see ``data.transforms.detection.ScaleJitter``.
        evaluation_transform: transform of all other images.
        masks: whether the objects' masks are needed.
        **others: see ``ImageDataset``.
    """

    def __init__(
        self,
        source: Source,
        *,
        transform: Callable[[Tensor, Objects, Generator], tuple[Tensor, Tensor, Objects]],
        evaluation_transform: FitSquare,
        masks: bool = True,
        **others: Any,
    ) -> None:
        super().__init__(source, **others)
        self.transform = transform
        self.evaluation_transform = evaluation_transform
        self.masks = masks

    def sample(self, image: AnyImage, index: int, requested: int, generator: Generator) -> DetectionBatch:
        """Return the transformed image and its objects."""
        pixels = image.whole()
        original = torch.tensor(pixels.shape[1:])
        objects = self._objects(index, *pixels.shape[1:]) if self.source.classes else _no_objects(*pixels.shape[1:])
        if self.train:
            square, size, objects = self.transform(pixels, objects, generator)
        else:
            square, size = self.evaluation_transform(pixels)
        return DetectionBatch(square, size, original, cast(Any, objects), torch.tensor(requested))

    def empty(self, requested: int) -> DetectionBatch:
        """Return a black square without objects."""
        side = self.evaluation_transform.size
        square = torch.zeros(self.decoder.channels, side, side, dtype=torch.uint8)
        size = torch.tensor([side, side])
        return DetectionBatch(square, size, size, cast(Any, _no_objects(side, side)), torch.tensor(requested))

    def check(self, index: int, height: int, width: int) -> NDArray[np.int64]:
        """Return the (K,) number of objects per class, without crowds, of an image of this size.

        Raises:
            ValueError: an object is invalid.
        """
        objects = self._objects(index, height, width)
        return np.bincount(objects.labels[~objects.crowd], minlength=len(self.source.classes))

    def collate(self, samples: list[DetectionBatch]) -> DetectionBatch:
        """Stack the squares; keep the objects in a list."""
        rest = default_collate([sample._replace(objects=[]) for sample in samples])
        return rest._replace(objects=[sample.objects for sample in samples])

    def _objects(self, index: int, height: int, width: int) -> Objects:
        annotations: ObjectAnnotations = self.source.annotation(index, height, width)
        name = self.source.name(index)
        if annotations.size != (height, width):
            raise ValueError(
                f"{name!r} is {width} x {height} pixels, its annotation says {annotations.size[1]} x "
                f"{annotations.size[0]} (data.decoder.upright=false ignores EXIF orientations)"
            )
        masks = torch.zeros(0, height, width, dtype=torch.bool)
        if self.masks and len(annotations.outlines):
            masks = torch.from_numpy(decode_masks(annotations.outlines, height, width, name))
        boxes, labels, crowd, area = map(torch.from_numpy, annotations[:4])
        return Objects(boxes, labels, masks, crowd, area)


def _no_objects(height: int, width: int) -> Objects:
    return Objects(
        torch.zeros(0, 4),
        torch.zeros(0, dtype=torch.int64),
        torch.zeros(0, height, width, dtype=torch.bool),
        torch.zeros(0, dtype=torch.bool),
        torch.zeros(0),
    )
