"""What the data benchmark compares is comparable, and the command runs at small scale."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from conftest import tiny_overrides
from hydra import compose, initialize_config_dir
from PIL import Image

from conmim_lightning.benchmark import time_images
from conmim_lightning.config import CONF_DIR, check
from conmim_lightning.data.benchmarks.decoders import decoders
from conmim_lightning.data.benchmarks.growth import made_names
from conmim_lightning.data.benchmarks.official import OfficialPipeline
from conmim_lightning.data.benchmarks.photos import write_photos
from conmim_lightning.data.folder import FolderSource
from conmim_lightning.data.sampler import SampleKey
from conmim_lightning.data.shards import ShardSource
from conmim_lightning.resolvers import register_resolvers


@pytest.fixture(scope="module")
def photos(tmp_path_factory) -> Path:
    root = tmp_path_factory.mktemp("photos") / "made"
    write_photos(root, count=6)
    return root


def test_photographs_are_of_imagenets_size(photos: Path):
    source = FolderSource(photos / "folder")
    sizes = [len(source.read(SampleKey(0, index))) for index in range(6)]
    assert 80_000 < np.median(sizes) < 140_000
    with Image.open(source.path(0)) as picture:
        assert picture.size == (500, 375)
    shards = ShardSource(photos / "shards")
    assert [shards.read(SampleKey(0, i)) for i in range(6)] == [source.read(SampleKey(0, i)) for i in range(6)]


def test_decoders_agree(photos: Path):
    content = FolderSource(photos / "folder").read(SampleKey(0, 0))
    with Image.open(FolderSource(photos / "folder").path(0)) as picture:
        right = np.asarray(picture).astype(int)
    assert {"Pillow", "simplejpeg"} <= set(decoders())
    for name, decode in decoders().items():
        pixels = np.asarray(decode(content)).astype(int)
        pixels = pixels if pixels.shape == right.shape else pixels.transpose(1, 2, 0)
        assert np.abs(pixels - right).max() <= 1, name


def test_the_official_work_gives_two_float_views_and_a_mask(photos: Path):
    weak, strong, mask = OfficialPipeline(224)(FolderSource(photos / "folder").read(SampleKey(0, 1)))
    assert weak.shape == strong.shape == (3, 224, 224)
    assert weak.dtype == strong.dtype == torch.float32
    assert mask.shape == (14, 14)
    assert mask.sum() == 37 * 4


@pytest.mark.slow
def test_the_command(tmp_path: Path, scenes_root: Path, capsys):
    register_resolvers()
    small = [item for item in tiny_overrides(scenes_root) if not item.startswith("data")]
    overrides = ["benchmark=data", f"paths.run_dir={tmp_path}/run", f"paths.data_dir={tmp_path}", *small]
    overrides += ["benchmark.images.count=48", "benchmark.images.rounds=1", "benchmark.images.batch_size=8"]
    with initialize_config_dir(CONF_DIR, version_base="1.3"):
        time_images(check(compose("benchmark", [*overrides, "benchmark.images.num_workers=[0,1]"])))
    found = json.loads((tmp_path / "run" / "benchmark.json").read_text())
    assert set(found["per_core"]) == {"folder", "manifest", "shards", "stream", "official work"}
    ours, theirs = found["bytes_an_image"]
    assert ours < theirs / 4
    assert "times the official work" in capsys.readouterr().out


def test_growth_at_small_scale(tmp_path: Path, scenes_root: Path, capsys):
    register_resolvers()
    small = [item for item in tiny_overrides(scenes_root) if not item.startswith("data")]
    overrides = ["benchmark=growth", f"paths.run_dir={tmp_path}/run", f"paths.data_dir={tmp_path}", *small]
    overrides += [
        "benchmark.images.names=[1000]",
        "benchmark.images.orders=[1000,2000000]",
        "benchmark.images.files=300",
    ]
    with initialize_config_dir(CONF_DIR, version_base="1.3"):
        time_images(check(compose("benchmark", [*overrides, "+benchmark.images.batch_size=8"])))
    found = json.loads((tmp_path / "run" / "benchmark.json").read_text())
    assert 19 + 8 + 4 <= found["index"]["1000"]["bytes an image"] < 32
    assert found["index"]["1000"]["bytes to a worker"] < 1000
    assert "order of   2,000,000" in capsys.readouterr().out


def test_made_names():
    names = made_names(1_000_002)
    assert (names[0], names[1_000_001]) == (b"00000/000000000.jpg", b"00100/001000001.jpg")
    assert len(names) == 1_000_002


def test_photos_in_imagenets_layout(tmp_path):
    from conmim_lightning.data.benchmarks.photos import write_photo_classes
    from conmim_lightning.data.parts import ImageNetParts

    write_photo_classes(tmp_path / "photos", train=1, val=1, width=16, height=12)
    for part in ("train", "val"):
        source = ImageNetParts()(str(tmp_path / "photos"), part, None)
        assert sorted(source.label(index) for index in range(len(source))) == list(range(1000))
    with pytest.raises(ValueError, match=r"train >= 1, val >= 1"):
        write_photo_classes(tmp_path / "other", train=0)
