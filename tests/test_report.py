import pytest
from reporting_runs import write_run

from conmim_lightning.report import run


def test_the_command(run_command, tmp_path):
    write_run(tmp_path / "runs" / "a")
    write_run(tmp_path / "runs" / "b", "other", seed=1)
    assert run_command("report", "runs/a").stdout == "runs/a/report.html\n"
    assert run_command("report", "runs/a", "runs/b").stdout == "comparison.html\n"
    assert run_command("report", "runs/a", "runs/b", "output=out/x.html").stdout == "out/x.html\n"
    assert (tmp_path / "out" / "x.html").stat().st_size > 1_000_000, "with plotly's script"


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ([], "give the folder of a run"),
        (["nowhere"], "'nowhere' is not a folder"),
        (["a", "outptu=x"], "unknown settings ['outptu']; allowed is output"),
    ],
)
def test_mistakes_are_one_message(run_command, words, message):
    done = run_command("report", *words)
    assert done.status == 1
    assert message in done.stderr
    assert "Traceback" not in done.stderr


def test_help(run_command):
    assert "usage: conmim report <run>" in run_command("report", "--help").stdout


def test_without_runs():
    with pytest.raises(ValueError, match="give the folder of a run"):
        run([])
