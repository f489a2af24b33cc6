"""Figures of a pre-training run: curves, and per image the views and maps."""

import math
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.image import AxesImage
from numpy.typing import NDArray
from torch import Tensor

from conmim_lightning.callbacks.reports.drawing import figure_array
from conmim_lightning.callbacks.reports.image_rows import ImageRow
from conmim_lightning.files import replacing
from conmim_lightning.text import figure_text

History = list[dict[str, float]]

_COLUMN = 3.4  # inches, a column of a paper
_SMALL = 8  # points
_DPI = 150
_PROBES = {
    "dense_auroc_object": "object or background, AUROC (%)",
    "dense_auroc_border": "border or not, AUROC (%)",
    "dense_auroc_class": "class of objects, AUROC (%)",
    "knn_top1": "k-NN top-1 (%)",
}
_TITLES = ("student view", "teacher view", "similarity of □", "five nearest keys", "P(object)")
_SPAN = 10.0  # smallest height of a probe's axis in points, so that noise does not look like progress


def draw_report(
    path: Path,
    curves: History,
    probes: History,
    images: Sequence[ImageRow],
    *,
    title: str = "",
    patches: int = 0,
    candidates: int = 0,
) -> None:
    """Write the figure of a run.

    Args:
        path: PNG file to write.
        curves: metrics of the pretext task by step.
        probes: metrics of the features by step; the first entry holds the baselines.
        images: one row each.
        title: text above.
        patches: number of patches of an image, which sets the chance level of the retrieval; 0 draws none.
        candidates: number of keys of a query, which sets that of the loss; 0 draws none.
    """
    probed = [name for name in _PROBES if probes and f"val/{name}" in probes[0]]
    plots = 2 + len(probed)
    rows = math.ceil(plots / 2)
    height = 2.1 * rows + 1.25 * len(images)
    figure = Figure(figsize=(2 * _COLUMN, height), layout="constrained")
    FigureCanvasAgg(figure)
    figure.suptitle(figure_text(title), fontsize=_SMALL + 1)
    ratios = [2.1] * rows + [1.25] * len(images)
    grid = figure.add_gridspec(len(ratios), 1, height_ratios=ratios)
    cells = [cell for row in range(rows) for cell in grid[row].subgridspec(1, 2)]
    axes = [figure.add_subplot(cell) for cell in cells[:plots]]
    _draw_loss(axes[0], curves, candidates)
    _draw_retrieval(axes[1], curves, patches)
    for axis, name in zip(axes[2:], probed, strict=True):
        _draw_probe(axis, probes, name)
    for number, image in enumerate(images):
        strip = figure.add_subfigure(grid[rows + number])
        _draw_row(strip, image, _limits(images), titled=number == 0)
    with replacing(path) as temporary:
        figure.savefig(temporary, dpi=_DPI)


def row_picture(image: ImageRow) -> NDArray[np.uint8]:
    """Return the panels of one image, (H, W, 3) uint8."""
    figure = Figure(figsize=(2 * _COLUMN, 1.7), layout="constrained", dpi=_DPI)
    _draw_row(figure, image, _limits([image]), titled=True)
    return figure_array(figure)


def _draw_loss(axis: Axes, curves: History, candidates: int) -> None:
    _plot(axis, curves, "train/loss", "loss")
    if candidates:
        axis.axhline(math.log(candidates), color="grey", linestyle=":", label=f"chance, ln {candidates}")
    _finish(axis, "loss (nats)")


def _draw_retrieval(axis: Axes, curves: History, patches: int) -> None:
    percent = [{key: value * (1 if key == "step" else 100) for key, value in entry.items()} for entry in curves]
    _plot(axis, percent, "train/retrieval_top1", "retrieval")
    _plot(axis, percent, "train/position_only_top1", "by position alone")
    if patches:
        axis.axhline(100 / patches, color="grey", linestyle=":", label=f"chance, 1/{patches}")
    axis.set_ylim(bottom=0)
    _finish(axis, "hidden patches found, top-1 (%)")


def _plot(axis: Axes, curves: History, key: str, label: str) -> None:
    points = [(entry["step"], entry[key]) for entry in curves if key in entry]
    if points:
        axis.plot(*zip(*points, strict=True), label=label, marker="." if len(points) < 10 else "")


def _draw_probe(axis: Axes, probes: History, name: str) -> None:
    """Draw a probe with two standard errors, and its baselines; the axis begins at chance."""
    key = f"val/{name}"
    points = [
        (entry["step"], 100 * entry[key], 200 * entry.get(f"{key}_error", 0.0)) for entry in probes if key in entry
    ]
    steps, values, errors = zip(*points, strict=True)
    axis.errorbar(steps, values, errors, marker="o", markersize=3, capsize=2, label="teacher, ± 2 standard errors")
    shown = [value for value in values if math.isfinite(value)]
    for suffix, label, style in (("_start", "initial weights", "--"), ("_pixels", "raw pixels", ":")):
        level = 100 * probes[0].get(key + suffix, math.nan)
        axis.axhline(level, linestyle=style, color="grey", label=label)
        shown += [level] if math.isfinite(level) else []
    margin = max([0.0, *(error for error in errors if math.isfinite(error))])
    low, high = min(shown, default=0.0) - margin, max(shown, default=0.0) + margin
    if "auroc" in name:
        axis.axhline(50, color="black", linewidth=0.5, label="chance")
        low = min(50.0, low) - 0.5
    else:
        low = 0.0
    axis.set_ylim(low, max(low + _SPAN + 0.5, high + 1))
    _finish(axis, _PROBES[name])


def _finish(axis: Axes, label: str) -> None:
    """Label an axis, with the legend above the curves."""
    axis.set_xlabel("step", fontsize=_SMALL)
    axis.set_ylabel(label, fontsize=_SMALL)
    axis.tick_params(labelsize=_SMALL - 1)
    axis.margins(x=0.02)
    if axis.get_legend_handles_labels()[0]:
        columns = min(2, len(axis.get_legend_handles_labels()[0]))
        axis.legend(
            fontsize=_SMALL - 2,
            loc="lower center",
            bbox_to_anchor=(0.5, 1.0),
            ncols=columns,
            frameon=False,
            borderpad=0,
        )


def _limits(images: Sequence[ImageRow]) -> tuple[float, float]:
    """Return a range for all similarities: from 0, or the smallest if it is negative, to 1."""
    return min([0.0, *(float(image.similarity.min()) for image in images)]), 1.0


def _draw_row(figure: Figure | object, image: ImageRow, limits: tuple[float, float], *, titled: bool) -> None:
    """Draw the panels of an image; maps lie over the teacher's view."""
    has_map = image.object_map is not None
    cells = figure.subplots(1, 4 + has_map)  # type: ignore[union-attr, attr-defined]
    for cell, title in zip(cells, _TITLES, strict=False):
        cell.set_axis_off()
        if titled:
            cell.set_title(title, fontsize=_SMALL)
    cells[0].imshow(image.student_view.numpy())
    cells[1].imshow(image.teacher_view.numpy())
    low, high = limits
    drawn = overlay(cells[2], image.teacher_view, image.similarity, low, high)
    _color_bar(figure, cells[2], drawn, "cosine")
    best = torch.full_like(image.similarity, math.nan)
    best.view(-1)[image.similarity.view(-1).topk(min(5, best.numel())).indices] = 1
    overlay(cells[3], image.teacher_view, best, 0, 1)
    if image.object_map is not None:
        drawn = overlay(cells[4], image.teacher_view, image.object_map, 0, 1)
        _color_bar(figure, cells[4], drawn, "probability")
    side = image.teacher_view.shape[0] / image.similarity.shape[0]
    row, column = ((index + 0.5) * side - 0.5 for index in image.query)
    for cell in (cells[2], cells[3]):
        cell.plot(column, row, marker="s", markersize=6, markerfacecolor="none", markeredgecolor="red")


def overlay(axis: Axes, image: Tensor, values: Tensor, low: float, high: float) -> AxesImage:
    """Draw a map over a grey image; NaN is transparent.

    Args:
        axis: where to draw.
        image: (H, W, 3) in [0, 1].
        values: (h, w).
        low: value of the first colour.
        high: value of the last colour.
    """
    height, width = image.shape[:2]
    axis.imshow(image.mean(-1).numpy(), cmap="gray", vmin=0, vmax=1)
    extent = (-0.5, width - 0.5, height - 0.5, -0.5)
    return axis.imshow(values.numpy(), cmap="viridis", vmin=low, vmax=high, alpha=0.65, extent=extent)


def _color_bar(figure: object, cell: Axes, drawn: AxesImage, label: str) -> None:
    bar = figure.colorbar(drawn, ax=cell, shrink=0.8, pad=0.02)  # type: ignore[attr-defined]
    bar.ax.tick_params(labelsize=_SMALL - 2)
    bar.set_label(label, fontsize=_SMALL - 2)
