"""Figure of the results of a step benchmark."""

import statistics
from pathlib import Path

from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from conmim_lightning.files import replacing
from conmim_lightning.profiling.step.train_step import PHASES
from conmim_lightning.profiling.table import STREAMS, quartiles
from conmim_lightning.runtime.results import Result

_FAR = 1.6  # times the longest bar
_BACKGROUND = {"facecolor": "white", "alpha": 0.7, "edgecolor": "none", "pad": 1}


def draw(result: Result, path: Path) -> None:
    """Draw the measured ones of throughput, phases of the step and throughput by batch size; write a PNG."""
    panels = [_draw_rates]
    if any("phases" in variant for variant in result["variants"].values()):
        panels.append(_draw_phases)
    if result.get("batch_sizes"):
        panels.append(_draw_batch_sizes)
    figure = Figure(figsize=(5.5 * len(panels), 4.2), layout="constrained")
    FigureCanvasAgg(figure)
    for draw_panel, axes in zip(panels, figure.subplots(1, len(panels), squeeze=False)[0], strict=True):
        draw_panel(result, axes)
    figure.suptitle(f"{result['device']}, batch size {result['batch_size']}", fontsize=10)
    with replacing(path) as temporary:
        figure.savefig(temporary, dpi=120)


def _draw_rates(result: Result, axes: Axes) -> None:
    """Draw median images per second with quartiles, and how much of the rate of matrix products alone that is.

    The rate of matrix products is a dashed line if it does not make the bars short.
    """
    batch, variants = result["batch_size"], result["variants"]
    bars = {name: [batch / value for value in quartiles(variant["step"])][::-1] for name, variant in variants.items()}
    bars |= {title: list(quartiles(result[key]["rates"])) for key, title in STREAMS.items() if key in result}
    longest = max(high for _, _, high in bars.values())
    for row, (name, (low, median, high)) in enumerate(bars.items()):
        axes.barh(row, median, xerr=[[median - low], [high - median]], color=f"C{row}", capsize=3)
        precision, text = name.split()[-1], f"  {median:,.4g}"
        if precision in result["matmul_rates"]:
            ceiling = result["matmul_rates"][precision] / result["flops_per_image"]
            text += f" = {100 * median / ceiling:.0f} % of products"
            if ceiling < _FAR * longest:
                axes.plot([ceiling] * 2, [row - 0.4, row + 0.4], "k--", linewidth=1)
        axes.text(0, row, text, va="center", fontsize=8, color="black", bbox=_BACKGROUND)
    axes.set_yticks(range(len(bars)), list(bars))
    axes.invert_yaxis()
    axes.set_xlabel("images per second (lines: quartiles; dashed: matrix products alone)")


def _draw_phases(result: Result, axes: Axes) -> None:
    """Draw the milliseconds of each phase, stacked."""
    variants = {name: variant for name, variant in result["variants"].items() if "phases" in variant}
    bottoms = dict.fromkeys(variants, 0.0)
    for color, phase in enumerate(("perturbation", *PHASES)):
        for column, (name, variant) in enumerate(variants.items()):
            value = statistics.median(variant["perturbation"]) if color == 0 else variant["phases"][phase]
            label = phase if column == 0 else None
            axes.bar(column, 1000 * value, bottom=1000 * bottoms[name], color=f"C{color}", label=label)
            bottoms[name] += value
    axes.set_xticks(range(len(variants)), [name.replace(" ", "\n") for name in variants])
    axes.set_ylabel("ms per step")
    axes.set_xlim(-0.6, len(variants) + 0.4)
    axes.legend(fontsize=8)


def _draw_batch_sizes(result: Result, axes: Axes) -> None:
    """Draw images per second and peak memory by batch size."""
    memory = axes.twinx()
    for color, (precision, sizes) in enumerate(result["batch_sizes"].items()):
        fitting = [size for size in sizes if size["step"] is not None]
        batches = [size["batch_size"] for size in fitting]
        rates = [size["batch_size"] / statistics.median(size["step"]) for size in fitting]
        axes.plot(batches, rates, "o-", color=f"C{color}", label=f"{precision}, images per second")
        peaks = [size["peak_bytes"] / 2**30 for size in fitting]
        memory.plot(batches, peaks, "x:", color=f"C{color}", label=f"{precision}, GiB")
    axes.set_xscale("log", base=2)
    axes.set_xlabel("batch size")
    axes.set_ylabel("images per second")
    axes.set_ylim(bottom=0)
    memory.set_ylabel("peak memory, GiB")
    memory.set_ylim(bottom=0)
    axes.legend(loc="upper left", fontsize=8)
    memory.legend(loc="lower right", fontsize=8)
