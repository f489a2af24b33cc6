import pytest
from PIL import Image
from reporting_runs import write_run

from conmim_lightning.reporting.run_folder import flat, read_run


def test_a_run_is_read(tmp_path):
    run = read_run(write_run(tmp_path / "run"))
    assert run.name == "quickstart 1"
    assert run.curves["train/loss"] == [(0, 4.0), (4, 3.0), (9, 2.0)]
    assert run.curves["val/knn_top1"] == [(0, 0.2), (9, 0.5)]
    assert "epoch" not in run.curves
    assert run.metrics["fit_seconds"] == 90
    assert [path.name for path in run.pictures] == ["report.png"]
    assert run.table == [["class", "images"], ["<cat>", "3"]]
    assert run.files == ["metrics/metrics.csv", "metrics.json", "run.yaml", "per_class.tsv"]


def test_many_pictures_are_thinned(tmp_path):
    folder = write_run(tmp_path / "run")
    (folder / "pictures").mkdir()
    for number in range(30):
        Image.new("RGB", (2, 2)).save(folder / "pictures" / f"{number:02d}.png")
    names = [path.name for path in read_run(folder).pictures]
    assert names == ["report.png", *(f"{number:02d}.png" for number in range(0, 30, 3))]


def test_only_metrics(tmp_path):
    (tmp_path / "metrics.json").write_text('{"test/top1": 0.5, "note": "x", "flag": true}')
    run = read_run(tmp_path)
    assert (run.name, run.metrics, run.curves) == (tmp_path.name, {"test/top1": 0.5}, {})


@pytest.mark.parametrize(
    ("file", "content", "message"),
    [
        (None, "", "holds no run: neither run.yaml nor metrics.json"),
        ("metrics.json", "{", "cannot be read"),
        ("metrics.json", "[1]", "holds no names with values"),
        ("run.yaml", "a: [", "cannot be read"),
        ("run.yaml", "a: !!python/object/apply:os.getcwd []", "cannot be read"),
    ],
)
def test_mistakes(tmp_path, file, content, message):
    if file:
        (tmp_path / file).write_text(content)
    with pytest.raises(ValueError, match=message):
        read_run(tmp_path)
    with pytest.raises(ValueError, match="is not a folder"):
        read_run(tmp_path / "nowhere")


def test_flat_settings():
    assert list(flat({"a": {"b": 1, "c": [1, 2]}, "d": None})) == [("a.b", "1"), ("a.c", "[1, 2]"), ("d", "None")]
