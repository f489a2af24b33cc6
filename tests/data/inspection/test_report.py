import json

import numpy as np
import pytest
from PIL import Image

from conmim_lightning.data.images.decode import Decoder
from conmim_lightning.data.inspection.report import Findings, Inspection, format_report
from conmim_lightning.data.sources.folder import FolderSource


@pytest.fixture
def source(tmp_path):
    random = np.random.default_rng(0)
    for name in "abcd":
        Image.fromarray(random.integers(0, 256, (40, 64, 3), dtype=np.uint8)).save(tmp_path / f"{name}.png")
    (tmp_path / "e.png").write_bytes((tmp_path / "b.png").read_bytes())
    (tmp_path / "f.png").write_bytes(b"nothing")
    return FolderSource(tmp_path)


def test_every_kind_has_its_list(source, tmp_path):
    inspection = Inspection(output=str(tmp_path / "out"), exclude=["broken", "similar"], num_workers=0)
    images, findings = inspection.inspect(source, Decoder())
    features = np.eye(4, dtype=np.float32)
    features[3] = features[0]
    inspection.add_similar(findings, features, findings.distinct(6))
    report = inspection.write(images, findings, source, Decoder())
    assert {kind: report[kind] for kind in ("broken", "exact", "near", "similar", "excluded")} == {
        "broken": 1, "exact": 1, "near": 0, "similar": 1, "excluded": 2,
    }  # fmt: skip
    assert "annotations" not in report, "there are none"
    lines = (tmp_path / "out" / "exclude.tsv").read_text().splitlines()
    assert lines[0] == "d.png\tfeatures similar to a.png"
    assert lines[1].startswith("f.png\t")
    assert json.loads((tmp_path / "out" / "inspection.json").read_text()) == report
    text = format_report(report)
    assert "6 images" in text
    assert "shorter side from   32: " in text
    assert text.endswith("broken 1, constant 0, exact 1, near 0, similar 1; 2 to exclude")


def test_distinct_images_are_neither_broken_nor_duplicates():
    findings = Findings({1: "cut"}, duplicates={"exact": {4: 0}, "near": {2: 0}})
    assert findings.distinct(6).tolist() == [0, 3, 5]


def test_a_collection_without_a_readable_image(tmp_path):
    (tmp_path / "images").mkdir()
    (tmp_path / "images" / "a.png").write_bytes(b"nothing")
    broken = FolderSource(tmp_path / "images")
    inspection = Inspection(output=str(tmp_path / "out"), exclude=[], num_workers=0)
    report = inspection.write(*inspection.inspect(broken, Decoder()), broken, Decoder())
    assert "none readable" in format_report(report)
    assert report["quantiles"] == {"width": {}, "height": {}, "bytes": {}}


def test_images_without_contrast_are_listed(tmp_path):
    (tmp_path / "images").mkdir()
    for number, name in enumerate("abc"):
        Image.new("L", (8 + number, 8), number).save(tmp_path / "images" / f"{name}.png")
    source = FolderSource(tmp_path / "images")
    inspection = Inspection(output=str(tmp_path / "out"), exclude=["constant"], near_bits=None, num_workers=0)
    report = inspection.write(*inspection.inspect(source, Decoder()), source, Decoder())
    assert (report["constant"], report["excluded"]) == (3, 3)
    assert "a.png\tnearly constant: standard deviation 0.00 of 255" in (tmp_path / "out" / "constant.tsv").read_text()
