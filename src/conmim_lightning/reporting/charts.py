"""Interactive charts of the curves of runs."""

import math
from collections.abc import Mapping, Sequence

import plotly.graph_objects as go
from plotly.io import to_html

from conmim_lightning.reporting.run_folder import Points

_COLORS = ("#1f77b4", "#ff7f0e", "#2ca02c", "#d62728", "#9467bd", "#8c564b", "#e377c2", "#7f7f7f", "#bcbd22", "#17becf")
_BASELINES = {"_start": ("initial weights", "dash"), "_pixels": ("raw pixels", "dot")}
_MOST_POINTS = 2000  # of a curve in a report
_MARKED = 12  # curves with fewer points have markers


def charts(runs: Mapping[str, Mapping[str, Points]]) -> dict[str, str]:
    """Return one chart per metric as HTML, by name; it needs plotly's script on the page.

    Args:
        runs: curves by metric, by name of the run; baselines of a metric are drawn with it.
    """
    suffixes = (*_BASELINES, "_error")
    names = dict.fromkeys(name for curves in runs.values() for name in curves if not name.endswith(suffixes))
    order = sorted(names, key=lambda name: (_rank(name), name))
    return {name: _chart(name, runs) for name in order}


def _rank(name: str) -> int:
    groups = ("train/loss", "train/retrieval_top1", "test/", "val/", "train/", "optim/", "speed/")
    return next((rank for rank, group in enumerate(groups) if name.startswith(group)), len(groups))


def _chart(name: str, runs: Mapping[str, Mapping[str, Points]]) -> str:
    figure = go.Figure()
    for position, (run, curves) in enumerate(runs.items()):
        color = _COLORS[position % len(_COLORS)]
        if name in curves:
            figure.add_trace(
                _trace(curves[name], curves.get(f"{name}_error", []), run if len(runs) > 1 else name, color)
            )
        for suffix, (label, dash) in _BASELINES.items():
            if points := curves.get(name + suffix):
                steps, values = zip(*points, strict=True)
                line = {"dash": dash, "color": color if len(runs) > 1 else "grey"}
                legend = f"{run}: {label}" if len(runs) > 1 else label
                figure.add_trace(go.Scatter(x=steps, y=values, mode="lines", line=line, name=legend))
    several = len(figure.data) > 1  # type: ignore[arg-type]
    figure.update_layout(
        title={"text": name, "font": {"size": 14}},
        height=300,
        margin={"l": 55, "r": 15, "t": 40, "b": 40},
        showlegend=several,
        legend={"orientation": "h", "y": -0.25, "font": {"size": 10}},
        xaxis={"title": {"text": "step"}},
        template="plotly_white",
        hovermode="x unified",
    )
    return to_html(figure, full_html=False, include_plotlyjs=False, config={"displaylogo": False, "responsive": True})


def _trace(points: Points, errors: Points, label: str, color: str) -> go.Scatter:
    """Return a curve with two standard errors, if they are known."""
    shown = thinned(points)
    steps, values = zip(*shown, strict=True)
    known = dict(errors)
    bars = [2 * known.get(step, math.nan) for step in steps]
    mode = "lines+markers" if len(shown) <= _MARKED else "lines"
    error_bars = {"type": "data", "array": bars, "thickness": 1} if errors else None
    return go.Scatter(x=steps, y=values, mode=mode, name=label, line={"color": color}, error_y=error_bars)


def thinned(points: Sequence[tuple[int, float]]) -> list[tuple[int, float]]:
    """Return at most ``_MOST_POINTS`` evenly spaced points, with the first and the last."""
    if len(points) <= _MOST_POINTS:
        return list(points)
    return [points[position * (len(points) - 1) // (_MOST_POINTS - 1)] for position in range(_MOST_POINTS)]
