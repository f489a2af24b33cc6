import random
from pathlib import Path
from types import SimpleNamespace

import pytest

from conmim_lightning.callbacks.broken_images import _listed
from conmim_lightning.callbacks.reports.predictions import Predictions
from conmim_lightning.data.sources.manifest import ManifestSource
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
    "# no comment.jpg",
    "\\# escaped.jpg",
    " spaces at the ends ",
    " ",
    "\\s.jpg",
    '"quoted".jpg',
    "\x0b\x85\u2028.jpg",
    "\ufeffmark.jpg",
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


def random_name(rng: random.Random) -> str:
    return "".join(rng.choice(ALPHABET) for _ in range(rng.randint(1, 8)))


ALPHABET = [
    "a",
    "/",
    ".",
    " ",
    "#",
    "\\",
    "\t",
    "\n",
    "\r",
    '"',
    "'",
    ",",
    "\x0b",
    "\x1c",
    "\x85",
    "\u2028",
    "ü",
    "\udcff",
    "\udc80",
]


def test_500_lists_of_random_names(tmp_path: Path):
    """What each writer of the project writes, each reader reads."""
    rng = random.Random(0)
    for number in range(500):
        names = {random_name(rng) for _ in range(rng.randint(1, 6))}
        path = tmp_path / f"{number}.tsv"
        path.write_bytes("".join(f"{to_line(name, 'why')}\n" for name in names).encode("utf-8", "surrogateescape"))
        assert read_names(str(path)) == names
        assert _listed(path) == {to_line(name) for name in names}


def test_predictions_of_random_names_are_a_manifest(tmp_path: Path):
    rng = random.Random(1)
    for _ in range(50):
        names = sorted({name for name in (random_name(rng) for _ in range(5)) if name.strip()})
        table = Predictions(str(tmp_path / "x.tsv"))
        table._rows = [[index, name, "", "", "a", "1", "b", "0"] for index, name in enumerate(names)]
        table._write(SimpleNamespace(is_global_zero=True, world_size=1), SimpleNamespace(classes=["a", "b"]))
        source = ManifestSource(tmp_path, manifest="x.tsv", path_column="image")
        assert [source.name(index) for index in range(len(source))] == names
