import json

import pytest

from conmim_lightning.runtime.results import format_metrics, print_existing, read_json, write_json


def test_results_are_read_as_they_were_written(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    content = {"variants": {"ours": [1.5]}}
    assert str(write_json(content, tmp_path / "a" / "b.json")) == "a/b.json"
    assert read_json(str(tmp_path / "a" / "b.json"), "variants") == content


@pytest.mark.parametrize(
    ("text", "message"),
    [("[", "cannot be read as JSON"), ("[]", "does not hold results"), (json.dumps({"a": 1}), "with 'variants'")],
)
def test_another_file_is_an_error(tmp_path, text, message):
    (tmp_path / "x.json").write_text(text)
    with pytest.raises(ValueError, match=message):
        read_json(str(tmp_path / "x.json"), "variants")
    with pytest.raises(ValueError, match="cannot be read as JSON"):
        read_json(str(tmp_path / "none.json"), "variants")


def test_metrics_are_one_per_line():
    assert format_metrics({"test/top1": 0.51234, "test/top5": 1.0}).split() == [
        "test/top1",
        "0.5123",
        "test/top5",
        "1.0000",
    ]


def test_only_existing_files_are_printed(tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "a.png").touch()
    print_existing([tmp_path / "a.png", tmp_path / "b.png"])
    assert capsys.readouterr().out == "a.png\n"
