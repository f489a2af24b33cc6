"""Grids of images with maps over them, as figures."""

from collections.abc import Sequence
from textwrap import fill
from typing import NamedTuple

import torch
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.image import AxesImage
from torch import Tensor

from conmim_lightning.text import figure_text

_INCHES, _LABEL, _TITLE, _BAR = 1.35, 0.25, 0.45, 0.75  # of a panel, its title, the figure's title, a colour bar
_NARROWEST = 3.3  # inches
_LETTERS = 18  # of the title per inch
_POINTS = 7
_DPI = 150
_MARK, _ARROW = "white", "red"

Arrow = tuple[tuple[int, int], tuple[int, int]]
"""Patches at start and end of an arrow, as (row, column)."""


class Panel(NamedTuple):
    """An image, with a map over it.

    Attributes:
        image: (H, W, 3) in [0, 1].
        title: text above.
        values: (h, w) map over the grey image, NaN is transparent; None for the image alone.
        limits: values of the first and the last colour.
        unit: what the values are, for the colour bar.
        marks: patches to mark with a square, as (row, column) of the grid.
        grid: rows and columns of patches.
        arrows: arrows between patches.
    """

    image: Tensor
    title: str = ""
    values: Tensor | None = None
    limits: tuple[float, float] = (0.0, 1.0)
    unit: str = ""
    marks: Sequence[tuple[int, int]] = ()
    grid: tuple[int, int] = (1, 1)
    arrows: Sequence[Arrow] = ()


Row = tuple[str, list[Panel]]
"""Label of a row and its panels."""


def draw_grid(rows: Sequence[Row], title: str, *, interpolate: bool = False) -> Figure:
    """Return a figure with one row of panels per entry, and a colour bar for each row with maps.

    Args:
        rows: label and panels of each row; the maps of a row have the same limits.
        title: title of the figure.
        interpolate: whether maps are interpolated (bilinear) instead of showing one square per value.
    """
    columns = max(len(panels) for _, panels in rows)
    has_bar = any(panel.values is not None for _, panels in rows for panel in panels)
    size = (columns * _INCHES + _BAR * has_bar + 0.2, len(rows) * (_INCHES + _LABEL) + _TITLE)
    figure = Figure(figsize=(max(size[0], _NARROWEST), size[1]), layout="constrained", dpi=_DPI)
    FigureCanvasAgg(figure)
    letters = int(_LETTERS * max(size[0], _NARROWEST))
    figure.suptitle("\n".join(fill(line, letters) for line in figure_text(title).split("\n")), fontsize=_POINTS)
    axes = figure.subplots(len(rows), columns, squeeze=False)
    for cells, (label, panels) in zip(axes, rows, strict=True):
        drawn = [_draw(cell, panel, interpolate=interpolate) for cell, panel in zip(cells, panels, strict=False)]
        for cell in cells:
            cell.set(xticks=[], yticks=[])
        for cell in cells[len(panels) :]:
            cell.set_axis_off()
        cells[0].set_ylabel(figure_text(label), fontsize=_POINTS - 1)
        maps = [(image, panel) for image, panel in zip(drawn, panels, strict=True) if image is not None]
        if maps:
            bar = figure.colorbar(maps[0][0], ax=list(cells), shrink=0.85, pad=0.01, aspect=12)
            bar.set_label(maps[0][1].unit, fontsize=_POINTS - 1)
            bar.ax.tick_params(labelsize=_POINTS - 1)
    return figure


def _draw(axis: Axes, panel: Panel, *, interpolate: bool) -> AxesImage | None:
    """Draw a panel; return its map."""
    height, width = panel.image.shape[:2]
    axis.set_title(figure_text(panel.title), fontsize=_POINTS)
    drawn = None
    if panel.values is None:
        axis.imshow(panel.image.numpy())
    else:
        axis.imshow(panel.image.mean(-1).numpy(), cmap="gray", vmin=0, vmax=1)
        low, high = panel.limits
        extent = (-0.5, width - 0.5, height - 0.5, -0.5)
        smooth = "bilinear" if interpolate else "nearest"
        drawn = axis.imshow(
            panel.values.numpy(), cmap="viridis", vmin=low, vmax=high, alpha=0.7, extent=extent, interpolation=smooth
        )
    side = height / panel.grid[0], width / panel.grid[1]
    for row, column in panel.marks:
        x, y = (column + 0.5) * side[1] - 0.5, (row + 0.5) * side[0] - 0.5
        axis.plot(x, y, marker="s", markersize=5, markerfacecolor="none", markeredgecolor=_MARK)
        axis.plot(
            x, y, marker="s", markersize=6.5, markerfacecolor="none", markeredgecolor="black", markeredgewidth=0.6
        )
    for start, end in panel.arrows:
        (y0, x0), (y1, x1) = (tuple((i + 0.5) * s - 0.5 for i, s in zip(p, side, strict=True)) for p in (start, end))
        axis.annotate("", (x1, y1), (x0, y0), arrowprops={"arrowstyle": "->", "color": _ARROW, "lw": 0.8})
    axis.set(xlim=(-0.5, width - 0.5), ylim=(height - 0.5, -0.5))
    return drawn


def with_common_limits(rows: Sequence[list[Panel]]) -> list[list[Panel]]:
    """Return rows of panels whose maps have the same limits, the widest of all."""
    limits = [panel.limits for row in rows for panel in row if panel.values is not None]
    if not limits:
        return list(rows)
    widest = min(low for low, _ in limits), max(high for _, high in limits)
    return [[panel._replace(limits=widest) for panel in row] for row in rows]


def limits_of(maps: Sequence[Tensor], low: float | None = None, high: float | None = None) -> tuple[float, float]:
    """Return the range of values, widened to ``low`` and ``high``, so that equal colours mean equal values."""
    values = torch.cat([values.flatten() for values in maps])
    bounds = [float(values.min()), float(values.max())]
    if low is not None:
        bounds[0] = min(bounds[0], low)
    if high is not None:
        bounds[1] = max(bounds[1], high)
    return bounds[0], bounds[1]
