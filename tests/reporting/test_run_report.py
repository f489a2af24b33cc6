import re

import pytest
from reporting_runs import write_run

from conmim_lightning.reporting.run_report import number, write_comparison, write_run_report


def cells(page: str) -> list[list[str]]:
    """Rows of all tables."""
    rows = re.findall(r"<tr>(.*?)</tr>", page, re.DOTALL)
    return [re.findall(r"<t[hd][^>]*>(.*?)</t[hd]>", row, re.DOTALL) for row in rows]


def test_the_report_of_a_run(tmp_path):
    output = write_run_report(write_run(tmp_path / "run"))
    assert output == tmp_path / "run" / "report.html"
    page = output.read_text()
    rows = cells(page)
    assert ["val/knn_top1", "0.5", "± 0.1", "0.2", ""] in rows
    assert ["&lt;cat&gt;", "3"] in rows
    assert ["torch", "2.11"] in rows
    assert ["loss.temperature", "0.1"] in rows
    assert ["continued", "4"] in rows
    assert "train a&lt;b&gt;&amp;c" in page
    assert "10 steps, fit 1.5 min" in page
    assert "Accuracy of k-NN" in page
    assert page.count("Plotly.newPlot(") >= 2


def test_a_comparison_shows_settings_that_differ(tmp_path):
    first = write_run(tmp_path / "a", loss={"temperature": 0.1})
    second = write_run(
        tmp_path / "b", "quickstart 2", loss={"temperature": 0.2}, extra=1, task={"loss": {"temperature": 0.2}}
    )
    write_comparison([first, second], tmp_path / "c.html")
    rows = cells((tmp_path / "c.html").read_text())
    start = rows.index(["setting", "quickstart 1", "quickstart 2"])
    assert rows[start + 1 :] == [["loss.temperature", "0.1", "0.2"], ["extra", "", "1"]], (
        "folders of the runs are no settings"
    )
    assert ["val/knn_top1", "0.5", "0.5"] in rows


def test_equal_names_become_paths_and_equal_runs_are_rejected(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    runs = [write_run(tmp_path / name) for name in "ab"]
    write_comparison(runs, tmp_path / "c.html")
    assert ["metric", "a", "b"] in cells((tmp_path / "c.html").read_text())
    with pytest.raises(ValueError, match="a run is given twice"):
        write_comparison([runs[0], f"{runs[0]}/."], tmp_path / "d.html")


def test_numbers():
    values = [0.123456, 1234.0, 1e-7, float("nan"), 12345.6]
    assert [number(value) for value in values] == ["0.1235", "1,234", "1e-07", "not a number", "1.235e+04"]
