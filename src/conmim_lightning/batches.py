"""Batches that data modules pass to tasks, and objects in images: the only types that data and tasks share.

Shapes: B images, C channels, H x W pixels, V = 2 views (student, teacher), P perturbation parameters, h x w patches.
"""

from collections.abc import Sequence
from typing import NamedTuple

from torch import Tensor

LEFT_OUT = "LeftOut:"
"""Beginning of a reason in the field ``broken`` that concerns no image: what was left out of a shard."""


class PretrainBatch(NamedTuple):
    """Unlabelled crops with the parameters of their random perturbation and masking.

    Attributes:
        crop: (B, C, H, W) uint8, the flipped and resized crop that both views share.
        perturbation: (B, V, P) float32, one row per view, see ``perturbation.draw``.
        mask: (B, h, w) bool, True = hidden from the student.
        index: (B,) int64, index of the sample that the sampler requested.
        broken: B strings, empty if the image was readable; otherwise one line (name, tab, reason) per image that was
            unreadable and replaced.
        max_hidden: largest number of hidden patches in an image, counted on the CPU because reading it from a GPU
            would synchronise; 0 if not counted.
    """

    crop: Tensor
    perturbation: Tensor
    mask: Tensor
    index: Tensor  # pyright: ignore[reportIncompatibleMethodOverride]
    broken: list[str]
    max_hidden: int = 0

    def with_max_hidden(self) -> "PretrainBatch":
        """Return the batch, which must still be on the CPU, with ``max_hidden`` filled in."""
        return self._replace(max_hidden=int(self.mask.flatten(1).sum(1).max()))


class PretrainViews(NamedTuple):
    """The input of a training step: a ``PretrainBatch`` after the perturbation on the training device.

    Attributes:
        student_view: (B, C, H, W) float, normalised.
        teacher_view: (B, C, H, W) float, normalised, with the same crop and flip.
        mask: (B, h, w) bool, True = hidden from the student.
        index: (B,) int64, as in ``PretrainBatch``.
        broken: B strings, as in ``PretrainBatch``, for the diagnosis of a failed step.
        max_hidden: number of patches, as in ``PretrainBatch``.
    """

    student_view: Tensor
    teacher_view: Tensor
    mask: Tensor
    index: Tensor  # pyright: ignore[reportIncompatibleMethodOverride]
    broken: Sequence[str] = ()
    max_hidden: int = 0


class LabelledBatch(NamedTuple):
    """Images with one class label each.

    Attributes:
        image: (B, C, H, W) uint8.
        label: (B,) int64, 0-based class; -1 = no class.
        index: (B,) int64, index of the image in its source.
        broken: B strings: empty if the image was readable, otherwise name, tab, reason.
    """

    image: Tensor
    label: Tensor
    index: Tensor  # pyright: ignore[reportIncompatibleMethodOverride]
    broken: Sequence[str] = ()


class SegmentationBatch(NamedTuple):
    """Images with one class per pixel.

    Training batches are stacked crops of one size; evaluation batches are lists because images keep their sizes.

    Attributes:
        image: (B, C, H, W) uint8, or a list of B tensors (C, H, W).
        label: (B, H, W) int16, 0-based classes, -1 = no class; or a list of B tensors (H, W).
        index: (B,) int64, index of the image in its source.
        broken: B strings: empty if the image was readable, otherwise name, tab, reason.
    """

    image: Tensor | list[Tensor]
    label: Tensor | list[Tensor]
    index: Tensor  # pyright: ignore[reportIncompatibleMethodOverride]
    broken: Sequence[str] = ()


class Objects(NamedTuple):
    """The n annotated objects of an image.

    Attributes:
        boxes: (n, 4) float32: left, top, right, bottom in pixels.
        labels: (n,) int64, 0-based classes.
        masks: (n, H, W) bool; (0, H, W) if only boxes are used.
        crowd: (n,) bool, COCO's ``iscrowd``; such objects occur only in evaluation.
        area: (n,) float32, annotated area in pixels.
    """

    boxes: Tensor
    labels: Tensor
    masks: Tensor
    crowd: Tensor
    area: Tensor


class Detections(NamedTuple):
    """The n objects that were detected in an image.

    Attributes:
        boxes: (n, 4) float32: left, top, right, bottom in pixels of the image file.
        scores: (n,) float32, descending.
        labels: (n,) int64, 0-based classes.
        masks: (n, H, W) bool; (0, H, W) if the detector predicts only boxes.
    """

    boxes: Tensor
    scores: Tensor
    labels: Tensor
    masks: Tensor


class DetectionBatch(NamedTuple):
    """Images with objects, padded to squares of one size.

    Attributes:
        image: (B, C, S, S) uint8, padded at the bottom and right.
        size: (B, 2) int64, height and width of each image within the square.
        original: (B, 2) int64, height and width of the image file.
        objects: objects of each image, in pixels of the square in training, of the image file in evaluation.
        index: (B,) int64, index of the image in its source.
        broken: B strings: empty if the image was readable, otherwise name, tab, reason.
    """

    image: Tensor
    size: Tensor
    original: Tensor
    objects: list[Objects]
    index: Tensor  # pyright: ignore[reportIncompatibleMethodOverride]
    broken: Sequence[str] = ()
