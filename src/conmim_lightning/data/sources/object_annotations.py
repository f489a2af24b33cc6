"""The annotated objects of an image."""

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray


class ObjectAnnotations(NamedTuple):
    """The n annotated objects of an image.

    Attributes:
        boxes: (n, 4) float32: left, top, right, bottom.
        labels: (n,) int64 class from 0.
        crowd: (n,) bool.
        area: (n,) float32.
        outlines: n segmentations in COCO's format; n times None if outlines are not needed.
        size: height and width of the image.
    """

    boxes: NDArray[np.float32]
    labels: NDArray[np.int64]
    crowd: NDArray[np.bool_]
    area: NDArray[np.float32]
    outlines: list[Any]
    size: tuple[int, int]
