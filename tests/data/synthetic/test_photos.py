from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from conmim_lightning.data.samplers.epoch import SampleKey
from conmim_lightning.data.sources.folder import FolderSource
from conmim_lightning.data.sources.shards.indexed import ShardSource
from conmim_lightning.data.sources.splits import ImageNetSplits
from conmim_lightning.data.synthetic.photos import write_photo_classes, write_photos


def test_photos_are_of_the_size_of_imagenet(tmp_path: Path):
    write_photos(tmp_path / "photos", count=6)
    source = FolderSource(tmp_path / "photos" / "folder")
    sizes = [len(source.read(SampleKey(0, index))) for index in range(6)]
    assert 80_000 < np.median(sizes) < 140_000
    with Image.open(source.path(0)) as image:
        assert image.size == (500, 375)
    shards = ShardSource(tmp_path / "photos" / "shards")
    assert [shards.read(SampleKey(0, i)) for i in range(6)] == [source.read(SampleKey(0, i)) for i in range(6)]


def test_photos_in_the_layout_of_imagenet(tmp_path):
    write_photo_classes(tmp_path / "photos", train=1, val=1, width=16, height=12)
    for split in ("train", "val"):
        source = ImageNetSplits()(str(tmp_path / "photos"), split, None)
        assert sorted(source.label(index) for index in range(len(source))) == list(range(1000))
    with pytest.raises(ValueError, match=r"must be at least 1, got 0"):
        write_photo_classes(tmp_path / "other", train=0)
