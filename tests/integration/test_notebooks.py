"""The notebooks run on synthetic data, and are stored without outputs."""

import tempfile
import warnings
from pathlib import Path

import matplotlib as mpl
import nbformat
import pytest

FOLDER = Path(__file__).parents[2] / "notebooks"
NOTEBOOKS = sorted(FOLDER.glob("*.ipynb"))


def test_there_is_one_per_subject():
    assert [path.stem[0] for path in NOTEBOOKS] == list("123456")


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_no_outputs_are_stored(path):
    notebook = nbformat.read(path, as_version=4)
    nbformat.validate(notebook)
    code = [cell for cell in notebook.cells if cell.cell_type == "code"]
    assert code
    assert not [cell for cell in code if cell.outputs or cell.execution_count]
    assert notebook.cells[0].source.startswith("# "), "a title"


@pytest.mark.slow
@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_cells_run_in_order(path, tmp_path, monkeypatch):
    started, written = tmp_path / "started", tmp_path / "written"
    started.mkdir()
    written.mkdir()
    monkeypatch.chdir(started)
    monkeypatch.setattr(tempfile, "tempdir", str(written))
    names: dict = {"__name__": "__main__"}
    cells = [cell.source for cell in nbformat.read(path, as_version=4).cells if cell.cell_type == "code"]
    with mpl.rc_context({"backend": "agg"}):
        import matplotlib.pyplot as plt

        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", message="FigureCanvasAgg is non-interactive")
            for number, source in enumerate(cells):
                exec(compile(source, f"{path.name}, cell {number}", "exec"), names)
        drawn = plt.get_fignums()
        plt.close("all")
    assert drawn, "a notebook shows something"
    assert not list(started.iterdir()), "the notebooks lie in one folder, so each writes elsewhere"
