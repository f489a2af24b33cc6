"""Figure of a confusion matrix."""

from collections.abc import Sequence

import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.colors import PowerNorm
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from numpy.typing import NDArray

from conmim_lightning.text import figure_text

_MAX_NAMED = 40  # with more classes, the figure shows no names
_MAX_NUMBERED = 20  # with more classes, the figure shows no numbers
_GAMMA = 0.5  # of the colours, so that errors of a few per cent are visible
_DARK = 35  # per cent above which text is white


def confusion_figure(matrix: NDArray[np.int64], names: Sequence[str]) -> Figure:
    """Return a figure: rows are classes, columns predictions, values per cent of a class; absent classes are hatched.

    Args:
        matrix: (K, K) counts, rows are classes, columns predictions.
        names: names of the classes.
    """
    counts, names = matrix.sum(1), [figure_text(name) for name in names]
    percent = 100 * matrix / np.maximum(counts[:, None], 1)
    side = min(16, max(4.5, 0.45 * len(names) + 2))
    figure = Figure(figsize=(side + 1, side), layout="constrained", dpi=120)
    FigureCanvasAgg(figure)
    axes = figure.add_subplot()
    image = axes.imshow(percent, norm=PowerNorm(_GAMMA, 0, 100), cmap="Blues", interpolation="nearest")
    total, correct = int(matrix.sum()), int(np.trace(matrix))
    fraction = f", {100 * correct / total:.1f} %" if total else ""
    axes.set(xlabel="prediction", ylabel="class", title=f"{correct} of {total} correct{fraction}")
    for row in np.flatnonzero(counts == 0):
        cell = Rectangle((-0.5, row - 0.5), len(names), 1, facecolor="0.9", edgecolor="0.6", hatch="///", linewidth=0)
        axes.add_patch(cell)
    if len(names) <= _MAX_NAMED:
        axes.set_xticks(range(len(names)), names, rotation=90)
        labels = [
            f"{name} ({count} images)" if count else f"{name} (absent)"
            for name, count in zip(names, counts, strict=True)
        ]
        axes.set_yticks(range(len(names)), labels)
    if len(names) <= _MAX_NUMBERED:
        for row, column in np.argwhere(matrix > 0):
            value = percent[row, column]
            text = f"{value:.0f}" if value >= 1 else "<1"
            axes.text(
                column, row, text, ha="center", va="center", color="white" if value > _DARK else "black", fontsize=8
            )
    figure.colorbar(image, ax=axes, shrink=0.8, label="% of the images of the class", ticks=[0, 1, 5, 20, 50, 100])
    return figure
