from pathlib import Path

import pytest

from conmim_lightning.data.sources.name_list import from_line, read_names, to_line

NAMES = [
    "a.jpg",
    "with space.jpg",
    "tab\t.jpg",
    "new\nline.jpg",
    "back\\slash\\n.jpg",
    "\udcff.jpg",
    "ü/日本.png",
    "\r.gif",
]


@pytest.mark.parametrize("name", NAMES)
def test_any_name_is_one_line_and_is_restored(name):
    line = to_line(name, "a reason\nof two lines")
    assert "\n" not in line
    assert from_line(line) == name
    assert line.split("\t")[1] == "a reason of two lines"


def test_a_list_is_restored(tmp_path: Path):
    lines = ["# a comment", *(to_line(name, "why") for name in NAMES), "", "bare.jpg"]
    (tmp_path / "x.tsv").write_text("\n".join(lines), "utf-8", "surrogateescape")
    assert read_names(str(tmp_path / "x.tsv")) == {*NAMES, "bare.jpg"}


def test_a_missing_list(tmp_path: Path):
    with pytest.raises(ValueError, match=r"nowhere.tsv' cannot be read"):
        read_names(str(tmp_path / "nowhere.tsv"))
