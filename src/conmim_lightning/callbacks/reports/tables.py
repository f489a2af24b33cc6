"""Columns that the tables per class share."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray


def confused_with(matrix: NDArray[Any], label: int, names: Sequence[str]) -> str:
    """Return a class's most frequent wrong prediction and its fraction, separated by a tab; both empty without errors.

    Args:
        matrix: (K, K) counts, rows are classes, columns predictions.
        label: index of the class.
        names: names of the classes.
    """
    wrong = matrix[label].copy()
    wrong[label] = 0
    most = int(np.argmax(wrong))
    return f"{names[most]}\t{wrong[most] / matrix[label].sum():.4f}" if wrong[most] else "\t"
