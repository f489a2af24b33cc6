"""What data hands to tasks: the only names that both sides know.

Shapes: B images, C channels, H x W pixels, V = 2 views (student, teacher), P perturbation parameters, h x w patches.
"""

from collections.abc import Sequence
from typing import NamedTuple

from torch import Tensor


class PretrainBatch(NamedTuple):
    """Unlabelled crops with everything that was drawn for them.

    Attributes:
        crop: (B, C, H, W) uint8, the flipped and resized crop that both views share.
        perturbation: (B, V, P) float32, a row per view as drawn by ``perturbation.draw``.
        mask: (B, h, w) bool, True where the student must not see the patch.
        index: (B,) int64, number of the sample that the sampler asked for.
        broken: B texts, empty where all went well; else lines of name, tab, reason, for what could not be read and was
            replaced.
        most_hidden: largest number of hidden patches of an image, counted before the batch goes to the device, where
            asking for it would mean waiting; 0 where nobody counted.
    """

    crop: Tensor
    perturbation: Tensor
    mask: Tensor
    index: Tensor
    broken: list[str]
    most_hidden: int = 0

    def counted(self) -> "PretrainBatch":
        """The same batch, still on the host, with ``most_hidden``."""
        return self._replace(most_hidden=int(self.mask.flatten(1).sum(1).max()))


class PretrainViews(NamedTuple):
    """What a training step consumes: the batch after the perturbation on the training device.

    Attributes:
        student_view: (B, C, H, W) float, normalised.
        teacher_view: (B, C, H, W) float, normalised, the same geometry.
        mask: (B, h, w) bool, True = hidden from the student.
        index: (B,) int64.
        broken: B texts as in ``PretrainBatch``, for whoever looks into a step that went wrong.
        most_hidden: as in ``PretrainBatch``.
    """

    student_view: Tensor
    teacher_view: Tensor
    mask: Tensor
    index: Tensor
    broken: Sequence[str] = ()
    most_hidden: int = 0


class LabelledBatch(NamedTuple):
    """Images with one class each.

    Attributes:
        image: (B, C, H, W) uint8.
        label: (B,) int64, 0-based class; -1 where there is none.
        index: (B,) int64, number of the sample in its source.
        broken: B texts, empty where all went well; else lines of name, tab, reason.
    """

    image: Tensor
    label: Tensor
    index: Tensor
    broken: Sequence[str] = ""


class ClassMapBatch(NamedTuple):
    """Images with a class for each pixel.

    Attributes:
        image: (B, C, H, W) uint8.
        class_map: (B, H, W) uint8; 0 means background or unlabelled, classes count from 1 (ADE20K's convention).
        index: (B,) int64, number of the sample in its source.
    """

    image: Tensor
    class_map: Tensor
    index: Tensor


class SegmentationBatch(NamedTuple):
    """Images with a class for each pixel.

    Training has crops of one size in one tensor; evaluation has a list, as its images keep their sizes.

    Attributes:
        image: (B, C, H, W) uint8, or B times (C, H, W).
        label: (B, H, W) int16, 0-based classes, -1 for none; or B times (H, W).
        index: (B,) int64, number of the sample in its source.
        broken: B texts, empty where all went well; else lines of name, tab, reason.
    """

    image: Tensor | list[Tensor]
    label: Tensor | list[Tensor]
    index: Tensor
    broken: Sequence[str] = ()


class Objects(NamedTuple):
    """The n objects of an image.

    Attributes:
        boxes: (n, 4) float32: left, top, right, bottom in pixels.
        labels: (n,) int64, 0-based classes.
        masks: (n, H, W) bool; (0, H, W) where only boxes are known.
        crowd: (n,) bool, True for a region of many objects, which only evaluation has.
        area: (n,) float32, pixels, as annotated.
    """

    boxes: Tensor
    labels: Tensor
    masks: Tensor
    crowd: Tensor
    area: Tensor


class DetectionBatch(NamedTuple):
    """Images with objects, padded to one square.

    Attributes:
        image: (B, C, S, S) uint8; beyond an image's own size it is padding.
        size: (B, 2) int64, height and width of each image within the square.
        original: (B, 2) int64, height and width of its file; in evaluation its objects are given in those pixels.
        objects: of each image; training gives them in the square's pixels.
        index: (B,) int64, number of the sample in its source.
        broken: B texts, empty where all went well; else lines of name, tab, reason.
    """

    image: Tensor
    size: Tensor
    original: Tensor
    objects: list[Objects]
    index: Tensor
    broken: Sequence[str] = ()
