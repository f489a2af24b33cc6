"""The inspect door on a collection with known faults."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from conftest import tiny_overrides
from hydra import compose, initialize_config_dir
from PIL import Image
from sklearn.datasets import load_sample_image

from conmim_lightning.config import CONF_DIR
from conmim_lightning.data.lists import read_names
from conmim_lightning.inspect import run
from conmim_lightning.resolvers import register_resolvers


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
def test_what_is_in_a_collection(collection, tmp_path, capsys, workers):
    account = inspect(tmp_path, "data=folder", f"data.root={collection}", f"data.num_workers={workers}")
    out = tmp_path / "out"
    assert account["images"] == 29
    assert account["formats"] == {"JPEG": 26, "WEBP": 1}
    assert (account["broken"], account["exact"], account["excluded"]) == (2, 1, 3)
    assert account["quantiles"]["width"]["0.5"] == 64
    assert account["shorter_side_from"]["64"] == 24
    assert account["shorter_side_from"]["256"] == 2
    assert account == json.loads((out / "inspection.json").read_text())
    assert read_names(str(out / "broken.tsv")) == {"cut.jpg", "text.png"}
    assert (out / "exact.tsv").read_text() == "photo c.jpg\tthe same bytes as photo a.jpg\n"
    assert "photo b.webp\tlooks like photo a.jpg\n" in (out / "near.tsv").read_text()
    assert read_names(str(out / "exclude.tsv")) == {"cut.jpg", "text.png", "photo c.jpg"}
    told = capsys.readouterr().out
    assert "29 images" in told
    assert "broken 2, exact 1, near " in told
    with Image.open(out / "contact_sheet.png") as sheet:
        assert sheet.width == 12 * 100 + 4
        assert len(np.unique(np.asarray(sheet))) > 50


def test_the_exclusion_list_goes_back_in(collection, tmp_path):
    inspect(tmp_path, "data=folder", f"data.root={collection}", "inspect.exclude=[broken,exact,near]")
    again = inspect(tmp_path, "data=folder", f"data.root={collection}", f"data.exclude={tmp_path}/out/exclude.tsv")
    assert (again["broken"], again["exact"], again["near"]) == (0, 0, 0)


@pytest.mark.slow
def test_features_of_a_run(collection, scenes_root, tmp_path, composed):
    from conmim_lightning.train import run as train

    train(composed("experiment=quickstart", *tiny_overrides(scenes_root), "debug=two_steps"))
    checkpoint = tmp_path / "run" / "checkpoints" / "last.ckpt"
    account = inspect(
        tmp_path,
        "data=folder",
        f"data.root={collection}",
        f"checkpoint={checkpoint}",
        "inspect.least_similarity=0.9999",
    )
    assert 0 <= account["similar"] < 27
    everything = inspect(
        tmp_path, "data=folder", f"data.root={collection}", f"checkpoint={checkpoint}", "inspect.near_bits=null",
        "inspect.least_similarity=-1",
    )  # fmt: skip
    assert everything["similar"] == 25, "all but one of those that are neither broken nor copies"


@pytest.mark.parametrize(
    ("overrides", "told"),
    [
        (["inspect.near_bits=16"], "got 16"),
        (["inspect.exclude=[ugly]"], "ugly"),
        (["inspect.sheet_images=0"], "got 0"),
        (["inspect.least_similarity=3"], "got 3"),
        (["checkpoint=/nowhere"], "'/nowhere' does not exist"),
        (["data.root=/nowhere"], "'/nowhere' does not exist"),
    ],
)
def test_bad_input(collection, tmp_path, overrides, told):
    from hydra.errors import HydraException

    with pytest.raises((ValueError, HydraException), match=told):
        inspect(tmp_path, "data=folder", f"data.root={collection}", *overrides)


def test_streams_are_inspected_where_their_shards_lie(tmp_path):
    with pytest.raises(ValueError, match="is a stream; inspect its shards where they lie, with data=shards"):
        inspect(
            tmp_path,
            "data=stream",
            f"data.root={tmp_path}",
            "data.source.shards=a.tar",
            "data.source.samples_per_epoch=1",
        )
