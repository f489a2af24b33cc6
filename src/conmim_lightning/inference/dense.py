"""Trained segmenters and detectors in eval mode."""

from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor

from conmim_lightning.batches import Detections
from conmim_lightning.data.datasets.base import ImageDataset
from conmim_lightning.data.sources.base import Source
from conmim_lightning.data.sources.given import GivenImage, GivenImages
from conmim_lightning.inference.frozen import FrozenModule
from conmim_lightning.inference.preprocessing import as_list

MakeDataset = Callable[[Source], ImageDataset[Any]]
"""Function that makes the evaluation dataset of images."""


class ClassMap(NamedTuple):
    """Class of each pixel of an image.

    Attributes:
        labels: (H, W) int16 indices of ``classes``, of the whole image.
        classes: names of the classes.
    """

    labels: Tensor
    classes: Sequence[str]


class DetectedObjects(NamedTuple):
    """The n objects in an image, the most probable first.

    Attributes:
        boxes: (n, 4) float32: left, top, right, bottom in pixels of the image.
        scores: (n,) float32 probabilities.
        classes: n names.
        masks: (n, H, W) bool; (0, H, W) from a detector without masks.
    """

    boxes: Tensor
    scores: Tensor
    classes: list[str]
    masks: Tensor


class _DenseModel(FrozenModule):
    """A task with annotations of every pixel or object, in eval mode, without gradients.

    Args:
        task: LightningModule.
        make_dataset: function that makes the evaluation dataset of images.

    Attributes:
        transform: function of a path, bytes or an image of Pillow; returns the sample that evaluation would load.
    """

    def __init__(self, task: Any, make_dataset: MakeDataset) -> None:
        super().__init__()
        self.task = task
        self.make_dataset = make_dataset
        self.classes: list[str] = list(task.classes)
        self.freeze()

    def transform(self, image: GivenImage) -> Any:
        """Return the sample that evaluation would load, not normalised; ValueError if the image cannot be read."""
        return self._sample(self.make_dataset(GivenImages([image])), 0)

    def _outputs(self, images: GivenImage | Sequence[GivenImage]) -> Iterator[dict[str, Any]]:
        """Yield the task's outputs for each image, as in evaluation."""
        dataset = self.make_dataset(GivenImages(as_list(images)))
        for index in range(len(dataset)):
            batch = dataset.collate([self._sample(dataset, index)])
            moved = self.task.transfer_batch_to_device(batch, self.device, 0)
            yield self.task.predict_step(self.task.on_after_batch_transfer(moved, 0), index)

    def _sample(self, dataset: ImageDataset[Any], index: int) -> Any:
        sample = dataset[index]
        if sample.broken:
            name, _, reason = str(sample.broken).partition("\t")
            raise ValueError(f"{name!r} cannot be read: {reason}")
        return sample


class LoadedSegmenter(_DenseModel):
    """A classifier of every pixel; see ``_DenseModel`` for its arguments."""

    def forward(self, images: Tensor) -> Tensor:
        """Map normalised (B, C, H, W) images of any size to (B, K, H, W) probabilities."""
        return self.task(images)

    @torch.inference_mode()
    def predict(self, images: GivenImage | Sequence[GivenImage]) -> list[ClassMap]:
        """Return the most probable class of each pixel of each image; ValueError if an image cannot be read."""
        return [ClassMap(outputs["predictions"][0].cpu(), self.classes) for outputs in self._outputs(images)]


class LoadedDetector(_DenseModel):
    """A detector of objects; see ``_DenseModel`` for its arguments."""

    def forward(self, images: Tensor, size: Tensor, original: Tensor) -> list[Detections]:
        """Detect objects in normalised images, see ``Detector``."""
        return self.task(images, size, original)

    @torch.inference_mode()
    def predict(self, images: GivenImage | Sequence[GivenImage]) -> list[DetectedObjects]:
        """Return the objects in each image; ValueError if an image cannot be read."""
        objects = []
        for outputs in self._outputs(images):
            boxes, scores, labels, masks = (values.cpu() for values in outputs["detections"][0])
            objects.append(DetectedObjects(boxes, scores, [self.classes[label] for label in labels.tolist()], masks))
        return objects
