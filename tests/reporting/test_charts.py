import json
import re

from conmim_lightning.reporting.charts import charts, thinned


def traces(html):
    """Traces of a chart, from the arguments of plotly's call."""
    start = html.index("[", html.index("Plotly.newPlot("))
    return json.JSONDecoder().raw_decode(html[start:])[0]


CURVES = {
    "val/x": [(0, 0.2), (9, 0.5)],
    "val/x_error": [(0, 0.1), (9, 0.05)],
    "val/x_start": [(0, 0.2)],
    "train/loss": [(0, 4.0)],
}


def test_a_chart_per_metric_with_its_baselines_and_errors():
    made = charts({"a": CURVES})
    assert list(made) == ["train/loss", "val/x"], "the loss is first"
    curve, baseline = traces(made["val/x"])
    assert (curve["name"], curve["x"], curve["y"]) == ("val/x", [0, 9], [0.2, 0.5])
    assert curve["error_y"]["array"] == [0.2, 0.1], "two standard errors"
    assert (baseline["name"], baseline["line"]["dash"]) == ("initial weights", "dash")
    assert not re.search("https?://(?!www.w3.org)", made["val/x"].replace("https://plot.ly", ""))


def test_a_trace_per_run():
    made = charts({"a": CURVES, "b": {"val/x": [(0, 0.1)], "b/only": [(0, 1.0)]}})
    assert [trace["name"] for trace in traces(made["val/x"])] == ["a", "a: initial weights", "b"]
    assert [trace["name"] for trace in traces(made["b/only"])] == ["b"]


def test_long_curves_keep_their_ends():
    points = [(step, float(step)) for step in range(100_000)]
    shown = thinned(points)
    assert len(shown) == 2000
    assert (shown[0], shown[-1]) == (points[0], points[-1])
    assert thinned(points[:5]) == points[:5]
