"""Columns that the tables per class share."""

import re
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray


def one_line(names: Sequence[str]) -> list[str]:
    """Return names without tabs and ends of lines, which would end a cell of a table."""
    return [re.sub("[\t\r\n]", " ", name) for name in names]


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
