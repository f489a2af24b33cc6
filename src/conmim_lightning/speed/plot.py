"""What a benchmark of the step found, as a picture."""

import statistics
from pathlib import Path
from typing import Any

from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from conmim_lightning.speed.ours import PARTS
from conmim_lightning.speed.told import quartiles


def draw(found: dict[str, Any], path: Path) -> None:
    """Write rates, parts of the step and rates by batch size, as far as they were measured, to a PNG."""
    panels = [_rates]
    if any("parts" in way for way in found["ways"].values()):
        panels.append(_parts)
    if found.get("sizes"):
        panels.append(_sizes)
    figure = Figure(figsize=(5.5 * len(panels), 4.2), layout="constrained")
    FigureCanvasAgg(figure)
    for panel, axes in zip(panels, figure.subplots(1, len(panels), squeeze=False)[0], strict=True):
        panel(found, axes)
    figure.suptitle(f"{found['device']}, batch {found['batch_size']}", fontsize=10)
    figure.savefig(path, dpi=120)


def _rates(found: dict[str, Any], axes: Any) -> None:
    """Median images a second with quartiles; a line at what the products alone would allow."""
    batch = found["batch_size"]
    bars = {name: [batch / value for value in quartiles(way["step"])][::-1] for name, way in found["ways"].items()}
    bars |= {title: list(quartiles(found[key]["rates"])) for key, title in _FLOWS.items() if key in found}
    for place, (name, (low, middle, high)) in enumerate(bars.items()):
        axes.barh(place, middle, xerr=[[middle - low], [high - middle]], color=f"C{place}", capsize=3)
        precision = name.split()[-1]
        if precision in found["ceilings"]:
            ceiling = found["ceilings"][precision] / found["operations"]
            axes.plot([ceiling] * 2, [place - 0.4, place + 0.4], "k--", linewidth=1)
    axes.set_yticks(range(len(bars)), list(bars))
    axes.invert_yaxis()
    axes.set_xlabel("images a second (bars: quartiles; dashed: products alone)")


_FLOWS = {"data": "data alone", "run": "end to end"}


def _parts(found: dict[str, Any], axes: Any) -> None:
    """Milliseconds of each part, one upon the other."""
    ways = {name: way for name, way in found["ways"].items() if "parts" in way}
    bottoms = dict.fromkeys(ways, 0.0)
    for number, part in enumerate(("perturbation", *PARTS)):
        for place, (name, way) in enumerate(ways.items()):
            value = statistics.median(way["perturbation"]) if number == 0 else way["parts"][part]
            label = part if place == 0 else None
            axes.bar(place, 1000 * value, bottom=1000 * bottoms[name], color=f"C{number}", label=label)
            bottoms[name] += value
    axes.set_xticks(range(len(ways)), [name.replace(" ", "\n") for name in ways])
    axes.set_ylabel("ms a step")
    axes.set_xlim(-0.6, len(ways) + 0.4)
    axes.legend(fontsize=8)


def _sizes(found: dict[str, Any], axes: Any) -> None:
    """Images a second and peak memory over the batch."""
    memory = axes.twinx()
    for number, (precision, tried) in enumerate(found["sizes"].items()):
        fitting = [one for one in tried if one["step"] is not None]
        batches = [one["batch_size"] for one in fitting]
        rates = [one["batch_size"] / statistics.median(one["step"]) for one in fitting]
        axes.plot(batches, rates, "o-", color=f"C{number}", label=f"{precision}, images a second")
        peaks = [one["peak_bytes"] / 2**30 for one in fitting]
        memory.plot(batches, peaks, "x:", color=f"C{number}", label=f"{precision}, GiB")
    axes.set_xscale("log", base=2)
    axes.set_xlabel("batch size")
    axes.set_ylabel("images a second")
    axes.set_ylim(bottom=0)
    memory.set_ylabel("peak memory, GiB")
    memory.set_ylim(bottom=0)
    axes.legend(loc="upper left", fontsize=8)
    memory.legend(loc="lower right", fontsize=8)
