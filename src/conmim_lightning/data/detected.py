"""Images with objects as samples and batches."""

from typing import Any

import torch
from torch import Generator
from torch.utils.data import default_collate

from conmim_lightning.batches import DetectionBatch, Objects
from conmim_lightning.data.annotated import AnnotatedImages
from conmim_lightning.data.outlines import masks_of


class DetectedImages(AnnotatedImages[DetectionBatch]):
    """Squares to train on, with objects in their pixels; or to evaluate, with objects in those of the file.

    An image that cannot be read to evaluate is one grey square without objects.

    Args:
        source: images with objects, or without.
        transform: of training images, see ``data.transforms.detection.ScaleJitter``.
        evaluation_transform: of all others, see ``FitSquare`` there.
        masks: whether the objects' masks are wanted.
        settings: the other arguments of ``AnnotatedImages``.
    """

    def __init__(
        self, source: Any, *, transform: Any, evaluation_transform: Any, masks: bool = True, **settings: Any
    ) -> None:
        super().__init__(source, **settings)
        self.transform = transform
        self.evaluation_transform = evaluation_transform
        self.masks = masks

    def sample(self, picture: Any, shown: int, asked: int, drawn: Generator, faults: str) -> DetectionBatch:
        """Image and objects, transformed."""
        pixels = picture.whole()
        original = torch.tensor(pixels.shape[1:])
        objects = self._objects(shown, *pixels.shape[1:]) if self.source.classes else _none(*pixels.shape[1:])
        if self.train:
            image, size, objects = self.transform(pixels, objects, drawn)
        else:
            image, size = self.evaluation_transform(pixels)
        return DetectionBatch(image, size, original, objects, torch.tensor(asked), faults)  # type: ignore[arg-type]

    def empty(self, asked: int, fault: str) -> DetectionBatch:
        """A square without objects."""
        side = self.evaluation_transform.size
        image = torch.zeros(self.decoder.channels, side, side, dtype=torch.uint8)
        size = torch.tensor([side, side])
        return DetectionBatch(image, size, size, _none(side, side), torch.tensor(asked), fault)  # type: ignore[arg-type]

    def check(self, index: int, height: int, width: int) -> None:
        """Read the objects."""
        self._objects(index, height, width)

    def collate(self, samples: list[DetectionBatch]) -> DetectionBatch:
        """Squares in one tensor, objects in a list."""
        rest = default_collate([sample._replace(objects=torch.empty(0)) for sample in samples])  # type: ignore[arg-type]
        return rest._replace(objects=[sample.objects for sample in samples])

    def _objects(self, index: int, height: int, width: int) -> Objects:
        known: Any = self.source
        found = known.annotation(index)
        if found["size"] != (height, width):
            told, name = found["size"], self.source.name(index)
            raise ValueError(
                f"{name!r} is {width} x {height} pixels, its annotation says {told[1]} x {told[0]} "
                "(data.decoder.upright=false leaves EXIF turns out)"
            )
        masks = torch.zeros(0, height, width, dtype=torch.bool)
        if self.masks and len(found["outlines"]):
            masks = torch.from_numpy(masks_of(found["outlines"], height, width, self.source.name(index)))
        boxes, labels, crowd, area = (torch.from_numpy(found[key]) for key in ("boxes", "labels", "crowd", "area"))
        return Objects(boxes, labels, masks, crowd, area)


def _none(height: int, width: int) -> Objects:
    return Objects(
        torch.zeros(0, 4),
        torch.zeros(0, dtype=torch.int64),
        torch.zeros(0, height, width, dtype=torch.bool),
        torch.zeros(0, dtype=torch.bool),
        torch.zeros(0),
    )
