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
    """

    crop: Tensor
    perturbation: Tensor
    mask: Tensor
    index: Tensor
    broken: list[str]


class PretrainViews(NamedTuple):
    """What a training step consumes: the batch after the perturbation on the training device.

    Attributes:
        student_view: (B, C, H, W) float, normalised.
        teacher_view: (B, C, H, W) float, normalised, the same geometry.
        mask: (B, h, w) bool, True = hidden from the student.
        index: (B,) int64.
        broken: B texts as in ``PretrainBatch``, for whoever looks into a step that went wrong.
    """

    student_view: Tensor
    teacher_view: Tensor
    mask: Tensor
    index: Tensor
    broken: Sequence[str] = ()


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


class SegmentationBatch(NamedTuple):
    """Images with a class for each pixel.

    Attributes:
        image: (B, C, H, W) uint8.
        class_map: (B, H, W) uint8; 0 means background or unlabelled, classes count from 1 (ADE20K's convention).
        index: (B,) int64, number of the sample in its source.
    """

    image: Tensor
    class_map: Tensor
    index: Tensor
