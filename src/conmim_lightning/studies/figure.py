"""Figure of a study's table: a panel per column, with a point per row, or a curve."""

from pathlib import Path

from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from conmim_lightning.files import replacing
from conmim_lightning.studies.definition import Study
from conmim_lightning.studies.table import Cell, Table
from conmim_lightning.text import figure_text

_MARGIN = 0.15  # of the range of values, left and right of them


def draw(study: Study, table: Table, path: Path) -> None:
    """Draw all columns that have values, side by side, and write a PNG; nothing if there is no value yet.

    Large marks are means over the seeds, dots are seeds, lines are standard deviations.
    """
    columns = [name for name in study.columns if any(table[row][name].values for row in study.rows)]
    if not columns:
        return
    is_curve = any(row.get("x") is not None for row in study.rows.values())
    height = 3.4 if is_curve else 1.2 + 0.36 * len(study.rows)
    figure = Figure(figsize=(1.6 + 2.5 * len(columns), height), layout="constrained")
    FigureCanvasAgg(figure)
    panels = figure.subplots(1, len(columns), squeeze=False, sharey=not is_curve)[0]
    for column, axes in zip(columns, panels, strict=True):
        cells = {row: table[row][column] for row in study.rows}
        (_draw_curve if is_curve else _draw_rows)(study, cells, axes)
        axes.set_title(figure_text(column), fontsize=9)
        axes.tick_params(labelsize=8)
    if not is_curve:
        panels[0].invert_yaxis()
    figure.suptitle(f"{figure_text(study.title)} (percent)", fontsize=10)
    with replacing(path) as temporary:
        figure.savefig(temporary, dpi=120)


def _draw_rows(study: Study, cells: dict[str, Cell], axes: Axes) -> None:
    """Draw a point per row, not a bar, as the axis does not begin at 0: differences may be small."""
    values = [value for cell in cells.values() for value in cell.values.values()]
    for position, (row, cell) in enumerate(cells.items()):
        if not cell.values:
            continue
        color = "C1" if row == study.baseline else "C0"
        axes.errorbar(cell.mean, position, xerr=cell.spread, fmt="D", color=color, capsize=3)
        axes.plot(list(cell.values.values()), [position] * len(cell.values), "k.", markersize=3)
        text = {"xytext": (0, 5), "textcoords": "offset points", "ha": "center", "fontsize": 8}
        axes.annotate(f"{cell.mean:.1f}", (cell.mean, position), **text)
    margin = max(1.0, _MARGIN * (max(values) - min(values)))
    axes.set_xlim(max(0.0, min(values) - margin), max(values) + margin)
    axes.set_yticks(range(len(cells)), [figure_text(row) for row in cells])
    axes.set_ylim(-0.7, len(cells) - 0.4)
    axes.grid(axis="y", alpha=0.3)


def _draw_curve(study: Study, cells: dict[str, Cell], axes: Axes) -> None:
    """Draw the rows with ``x`` as a curve over a logarithmic axis, and the others as dashed lines."""
    points = [(study.rows[row]["x"], cell) for row, cell in cells.items() if "x" in study.rows[row] and cell.values]
    if points:
        places, drawn = [x for x, _ in points], [cell for _, cell in points]
        errors = [cell.spread or 0.0 for cell in drawn]
        axes.errorbar(places, [cell.mean for cell in drawn], yerr=errors, fmt="o-", color="C1", capsize=3)
        axes.set_xscale("log")
        axes.set_xticks(places, [f"{x:,}" for x in places])
        axes.minorticks_off()
    flat = {row: cell for row, cell in cells.items() if "x" not in study.rows[row] and cell.values}
    for color, (row, cell) in enumerate(flat.items(), start=2):
        axes.axhline(cell.mean, linestyle="--", color=f"C{color}", label=figure_text(row))
    if flat:
        axes.legend(fontsize=7)
    axes.set_xlabel(study.x_label or "")
