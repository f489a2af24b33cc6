import json

import pytest
from small_study import small_study, write_metrics, write_small_results

from conmim_lightning.studies.table import Cell, collect, format_differences, format_table, write_table


def test_cells_are_percent_with_mean_and_standard_deviation(tmp_path):
    write_small_results(tmp_path)
    table = collect(small_study(), tmp_path)
    assert table["ours"]["k-NN"].values == pytest.approx({0: 50.0, 1: 60.0, 2: 70.0})
    assert format_table(small_study(), table).splitlines() == [
        "|  | k-NN | at the end |",
        "| --- | --- | --- |",
        "| ours | 60.0 ± 10.0 (3) | 25.0 (1) |",
        "| random | 30.0 ± 10.0 (3) | - |",
    ]


def test_differences_are_paired_by_seed(tmp_path):
    """50 - 20, 60 - 40, 70 - 30: mean 30, standard deviation 10, standard error 10 / sqrt(3)."""
    write_small_results(tmp_path)
    table = collect(small_study(), tmp_path)
    assert format_differences(small_study(), table).splitlines()[2:] == ["| ours | +30.0 ± 5.8 | - |"]
    assert format_differences(small_study(baseline=None), table) == ""


def test_seeds_that_one_row_lacks_do_not_count():
    table = {"ours": {"c": Cell({0: 50.0, 1: 90.0})}, "random": {"c": Cell({0: 20.0})}}
    study = small_study(columns={"c": {"run": "probes", "metric": "m"}})
    assert format_differences(study, table).splitlines()[-1] == "| ours | +30.0 |"


def test_incomplete_runs_are_empty_and_wrong_metrics_are_errors(tmp_path):
    folder = tmp_path / "ours" / "probes" / "seed0"
    assert not collect(small_study(), tmp_path)["ours"]["k-NN"].values
    write_metrics(folder, {"val/x": 1.0}, complete=False)
    assert not collect(small_study(), tmp_path)["ours"]["k-NN"].values
    write_metrics(folder, {"val/x": 1.0})
    with pytest.raises(ValueError, match=r"column 'k-NN': .*metrics.json has no 'test/knn'; it has val/x"):
        collect(small_study(), tmp_path)


def test_files(tmp_path):
    write_small_results(tmp_path)
    table = collect(small_study(), tmp_path)
    write_table(small_study(), table, tmp_path)
    text = (tmp_path / "table.md").read_text()
    assert text.startswith("# Small\n\n|  | k-NN |")
    assert "minus random" in text
    stored = json.loads((tmp_path / "table.json").read_text())
    assert stored["percent"]["ours"]["k-NN"] == pytest.approx({"0": 50.0, "1": 60.0, "2": 70.0})
