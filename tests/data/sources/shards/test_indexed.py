import os
import pickle
from pathlib import Path

import pytest
from shard_files import jpeg, samples, write_shard, write_shards

from conmim_lightning.data.images.files import BrokenImageError
from conmim_lightning.data.samplers.epoch import SampleKey
from conmim_lightning.data.sources.shards.indexed import ShardSource


def read(source, index: int) -> bytes:
    return source.read(SampleKey(0, index))


def test_random_access_to_every_image(tmp_path: Path):
    write_shards(tmp_path, 5, 1, 7)
    source = ShardSource(tmp_path)
    assert len(source) == 13
    assert [read(source, index) for index in (12, 0, 5, 4, 6)] == [jpeg(number) for number in (12, 0, 5, 4, 6)]
    assert [source.name(index) for index in (4, 5, 6)] == [
        "00000.tar/000004.jpg",
        "00001.tar/000005.jpg",
        "00002.tar/000006.jpg",
    ]


def test_nested_shards_nested_members_and_empty_shards(tmp_path: Path):
    write_shard(tmp_path / "b" / "y.tar", {"dir/sub.dir/1.jpg": jpeg(1), "./2.png": jpeg(2)})
    write_shard(tmp_path / "a.tar", {})
    source = ShardSource(tmp_path)
    assert [source.name(index) for index in range(2)] == ["b/y.tar/dir/sub.dir/1.jpg", "b/y.tar/./2.png"]
    assert read(source, 1) == jpeg(2)


def test_more_shards_than_open_files(tmp_path: Path, monkeypatch):
    monkeypatch.setattr("conmim_lightning.data.sources.shards.indexed._OPEN_FILES", 2)
    write_shards(tmp_path, *[2] * 7)
    source = ShardSource(tmp_path)
    before = len(os.listdir("/proc/self/fd"))
    for _ in range(2):
        assert [read(source, index) for index in range(14)] == [jpeg(number) for number in range(14)]
    assert len(os.listdir("/proc/self/fd")) - before <= 2


def test_labels(tmp_path: Path):
    members = {"1.jpg": jpeg(1), "1.cls": b"3\n", "2.cls": b"0", "2.jpg": jpeg(2)}
    write_shard(tmp_path / "a.tar", members)
    source = ShardSource(tmp_path, labelled=True)
    assert [source.label(0), source.label(1)] == [3, 0]
    assert source.classes == ["0", "1", "2", "3"]
    with pytest.raises(ValueError, match=r"1 of 2 images .* no label from 0 to 1 .* first is 'a.tar/1.jpg'"):
        ShardSource(tmp_path, labelled=True, classes=["a", "b"])
    write_shard(tmp_path / "b.tar", samples(5, 1))
    with pytest.raises(ValueError, match=r"b.tar/000005.jpg"):
        ShardSource(tmp_path, labelled=True)


def test_a_shard_cut_after_it_was_indexed(tmp_path: Path):
    (path,) = write_shards(tmp_path, 3)
    source = ShardSource(tmp_path)
    os.truncate(path, 600)
    with pytest.raises(BrokenImageError, match=r"Truncated: the shard ends after \d+ of the image's \d+ bytes"):
        read(source, 0)
    path.unlink()
    fresh = pickle.loads(pickle.dumps(source))
    with pytest.raises(BrokenImageError, match="FileNotFoundError"):
        read(fresh, 0)


def test_limits(tmp_path: Path):
    write_shard(tmp_path / "a.tar", {"1.jpg": b"", "2.jpg": b"12345"})
    source = ShardSource(tmp_path)
    with pytest.raises(BrokenImageError, match="Empty"):
        read(source, 0)
    with pytest.raises(BrokenImageError, match="TooLarge: 5 bytes, more than 4"):
        source.read(SampleKey(0, 1), 4)
