"""What ``inspect`` says of a folder with one image of every kind of trouble."""

import shutil
import sys
from pathlib import Path

import numpy as np
import pytest
from downstream_runs import configure
from PIL import Image

from conmim_lightning.data.sources.name_list import read_names
from conmim_lightning.inspect import run

sys.path.insert(0, str(Path(__file__).parents[1]))
from worst_folder import write_worst_folder

REASONS = {
    "cut.jpg": "OSError: image file is truncated",
    "dangling.jpg": "FileNotFoundError",
    "empty.png": "Empty: it has no bytes",
    "float.tiff": "NoValueRange: it has float32 values from 0 to 0.996078",
    "page.jpg": "UnidentifiedImageError",
    "script.png": "UnidentifiedImageError",
}


@pytest.fixture
def root(tmp_path):
    return write_worst_folder(tmp_path / "worst")


def test_every_kind_is_found(root, tmp_path, capsys):
    report = run(configure("inspect", tmp_path / "out", f"data.root={root}", "data.num_workers=0"))
    lines = (tmp_path / "out" / "broken.tsv").read_text().splitlines()
    broken = dict(line.split("\t") for line in lines)
    assert set(broken) == set(REASONS)
    assert all(broken[name].startswith(reason) for name, reason in REASONS.items())
    assert read_names(str(tmp_path / "out" / "constant.tsv")) == {"8 bits in 16.png", "grey.png"}
    assert read_names(str(tmp_path / "out" / "exact.tsv")) == {"copy b.jpg"}
    assert "smaller copy.webp" in read_names(str(tmp_path / "out" / "near.tsv"))
    assert report["images"] == 26
    assert sum(report["formats"].values()) == 26 - len(REASONS)
    text = capsys.readouterr().out
    assert "hidden or system files and folders passed over: 6" in text
    assert "files passed over: 1 .heic, 1 .tga, 1 .txt, 1 .zip, 1 without suffix" in text
    assert "broken 6, constant 2, exact 1, near 2; 7 to exclude" in text
    sheet = np.asarray(Image.open(tmp_path / "out" / "contact_sheet.png"))
    assert (sheet == (220, 40, 40)).all(-1).any(), "broken images are crossed"


def test_the_list_and_a_range_leave_a_folder_without_trouble(root, tmp_path):
    own = [f"data.root={root}", "data.num_workers=0"]
    run(configure("inspect", tmp_path / "first", *own, "inspect.exclude=[broken,constant,exact,near]"))
    shutil.move(tmp_path / "first" / "exclude.tsv", tmp_path / "exclude.tsv")
    report = run(configure("inspect", tmp_path / "second", *own, f"data.exclude={tmp_path}/exclude.tsv"))
    assert {kind: report[kind] for kind in ("broken", "constant", "exact", "near")} == {
        "broken": 0, "constant": 0, "exact": 0, "near": 0,
    }  # fmt: skip
