"""The command on a collection with known faults."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from conftest import tiny_overrides
from downstream_runs import configure
from hydra import compose, initialize_config_dir
from hydra.errors import HydraException
from PIL import Image
from sklearn.datasets import load_sample_image

from conmim_lightning.config.check import CONF_DIR
from conmim_lightning.config.resolvers import register_resolvers
from conmim_lightning.data.sources.name_list import read_names
from conmim_lightning.inspect import run
from conmim_lightning.train import run as train


@pytest.fixture(scope="module")
def collection(tmp_path_factory, scenes_root: Path) -> Path:
    """24 scenes, a photograph, the same one smaller and recompressed, an exact copy, and two broken files."""
    root = tmp_path_factory.mktemp("collection") / "images"
    shutil.copytree(scenes_root / "folders" / "val", root)
    photograph = Image.fromarray(load_sample_image("flower.jpg"))
    photograph.save(root / "photo a.jpg", quality=95)
    photograph.resize((320, 213)).save(root / "photo b.webp", quality=70)
    shutil.copy(root / "photo a.jpg", root / "photo c.jpg")
    (root / "cut.jpg").write_bytes((root / "photo a.jpg").read_bytes()[:5000])
    (root / "text.png").write_text("no image")
    return root


def inspect(tmp_path: Path, *overrides: str) -> dict:
    register_resolvers()
    with initialize_config_dir(CONF_DIR, version_base="1.3"):
        cfg = compose(
            "inspect", [f"paths.run_dir={tmp_path}/out", f"paths.data_dir={tmp_path}", "logger=none", *overrides]
        )
    return run(cfg)


@pytest.mark.parametrize("workers", [0, 2])
def test_a_collection_with_faults(collection, tmp_path, capsys, workers):
    report = inspect(tmp_path, "data=folder", f"data.root={collection}", f"data.num_workers={workers}")
    out = tmp_path / "out"
    assert report["images"] == 29
    assert report["formats"] == {"JPEG": 26, "WEBP": 1}
    assert (report["broken"], report["exact"], report["excluded"]) == (2, 1, 3)
    assert report["quantiles"]["width"]["0.5"] == 64
    assert report["shorter_side_from"]["64"] == 24
    assert report["shorter_side_from"]["256"] == 2
    assert report == json.loads((out / "inspection.json").read_text())
    assert read_names(str(out / "broken.tsv")) == {"cut.jpg", "text.png"}
    assert (out / "exact.tsv").read_text() == "photo c.jpg\tsame bytes as photo a.jpg\n"
    assert "photo b.webp\tlooks like photo a.jpg\n" in (out / "near.tsv").read_text()
    assert read_names(str(out / "exclude.tsv")) == {"cut.jpg", "text.png", "photo c.jpg"}
    text = capsys.readouterr().out
    assert "29 images" in text
    assert "broken 2, constant 0, exact 1, near " in text
    with Image.open(out / "contact_sheet.png") as sheet:
        assert sheet.width == 12 * 100 + 4
        assert len(np.unique(np.asarray(sheet))) > 50


def test_the_exclusion_list_is_accepted(collection, tmp_path):
    inspect(tmp_path, "data=folder", f"data.root={collection}", "inspect.exclude=[broken,exact,near]")
    again = inspect(tmp_path, "data=folder", f"data.root={collection}", f"data.exclude={tmp_path}/out/exclude.tsv")
    assert (again["broken"], again["exact"], again["near"]) == (0, 0, 0)


@pytest.mark.slow
def test_features_of_a_run(collection, scenes_root, tmp_path, composed):
    train(composed("experiment=quickstart", *tiny_overrides(scenes_root), "debug=two_steps"))
    checkpoint = tmp_path / "run" / "checkpoints" / "last.ckpt"
    report = inspect(
        tmp_path,
        "data=folder",
        f"data.root={collection}",
        f"checkpoint={checkpoint}",
        "inspect.min_similarity=0.9999",
    )
    assert 0 <= report["similar"] < 27
    everything = inspect(
        tmp_path, "data=folder", f"data.root={collection}", f"checkpoint={checkpoint}", "inspect.near_bits=null",
        "inspect.min_similarity=-1",
    )  # fmt: skip
    assert everything["similar"] == 25, "all but one of those that are neither broken nor duplicates"


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (["inspect.near_bits=16"], "got 16"),
        (["inspect.exclude=[ugly]"], "ugly"),
        (["inspect.sheet_images=0"], "got 0"),
        (["inspect.min_similarity=3"], "got 3"),
        (["checkpoint=/nowhere"], "'/nowhere' does not exist"),
        (["data.root=/nowhere"], "'/nowhere' does not exist"),
    ],
)
def test_bad_input(collection, tmp_path, overrides, message):
    with pytest.raises((ValueError, HydraException), match=message):
        inspect(tmp_path, "data=folder", f"data.root={collection}", *overrides)


def test_streams_are_not_inspected(tmp_path):
    with pytest.raises(ValueError, match="is a stream; inspect its shards as local files, with data=shards"):
        inspect(
            tmp_path,
            "data=stream",
            f"data.root={tmp_path}",
            "data.source.shards=a.tar",
            "data.source.samples_per_epoch=1",
        )


def test_inspection_covers_class_maps(scenes_root, tmp_path):
    root = tmp_path / "ade20k"
    for split in ("training", "validation"):
        for kind in ("images", "annotations"):
            (root / kind / split).mkdir(parents=True)
            for path in sorted((scenes_root / "ade20k" / kind / split).iterdir())[:4]:
                (root / kind / split / path.name).write_bytes(path.read_bytes())
    maps = sorted((root / "annotations" / "training").iterdir())
    Image.fromarray(np.full((64, 64), 99, np.uint8)).save(maps[1])
    Image.fromarray(np.zeros((10, 64), np.uint8)).save(maps[2])
    own = ["data=segmentation_scenes", "data.prepare=null", f"data.root={root}", "data.num_workers=0"]
    report = run(configure("inspect", tmp_path / "i", *own, "inspect.num_workers=0", "backbone=vit_tiny"))
    assert report["annotations"] == 2
    lines = (tmp_path / "i" / "annotations.tsv").read_text().splitlines()
    assert "values that are not classes: 99" in lines[0]
    assert "64 x 10 pixels" in lines[1]
    values = np.stack([np.asarray(Image.open(maps[number])) for number in (0, 3)])
    assert sum(report["per_class"].values()) == values.size
    assert report["per_class"]["background"] == (values == 0).sum()
    assert [line.split("\t")[0] for line in (tmp_path / "i" / "exclude.tsv").read_text().splitlines()] == [
        path.with_suffix(".jpg").name for path in maps[1:3]
    ]


def test_inspection_covers_objects(scenes_root, tmp_path):
    root = tmp_path / "coco"
    names = sorted((scenes_root / "coco" / "train").iterdir())[:6]
    (root / "train").mkdir(parents=True)
    for path in names:
        (root / "train" / path.name).write_bytes(path.read_bytes())
    content = json.loads((scenes_root / "coco" / "annotations" / "instances_train.json").read_text())
    content["images"] = [entry for entry in content["images"] if entry["file_name"] in {path.name for path in names}]
    ids = {entry["id"] for entry in content["images"]}
    content["annotations"] = [entry for entry in content["annotations"] if entry["image_id"] in ids]
    content["annotations"][0]["segmentation"] = [[1, 2, 3]]
    Image.new("RGB", (9, 9)).save(root / "train" / names[-1].name, "JPEG")
    (root / "annotations").mkdir()
    (root / "annotations" / "instances_train.json").write_text(json.dumps(content))
    own = ["data=coco_scenes", "data.prepare=null", f"data.root={root}", "data.num_workers=0"]
    report = run(configure("inspect", tmp_path / "i", *own, "inspect.num_workers=0", "backbone=vit_tiny"))
    reasons = (tmp_path / "i" / "annotations.tsv").read_text()
    assert report["annotations"] == 2
    assert "polygons need at least three points" in reasons
    boxes = [entry for entry in content["annotations"][1:] if entry["image_id"] != content["images"][-1]["id"]]
    assert sum(report["per_class"].values()) == len(boxes)
    assert "is 9 x 9 pixels, its annotation says 64 x 64" in reasons
