import os
import pickle
from pathlib import Path

import pytest
from shard_files import jpeg, samples, write_shard, write_shards

from conmim_lightning.data.samplers.epoch import SampleKey
from conmim_lightning.data.sources.shards.indexed import ShardSource
from conmim_lightning.data.sources.shards.tar import index_shard


def read(source, index: int) -> bytes:
    return source.read(SampleKey(0, index))


def test_only_changed_shards_are_indexed_again(tmp_path: Path, monkeypatch):
    root, index_dir = tmp_path / "set", str(tmp_path / "index")
    write_shards(root, 4, 3, 5)
    first = ShardSource(root, index_dir=index_dir)
    expected = [first.name(index) for index in range(12)]
    indexed = []

    def record(path: str, choice):
        indexed.append(Path(path).name)
        return index_shard(path, choice)

    monkeypatch.setattr("conmim_lightning.data.sources.shards.index.index_shard", record)
    again = ShardSource(root, index_dir=index_dir)
    assert ([again.name(index) for index in range(12)], indexed) == (expected, [])
    write_shard(root / "00001.tar", samples(50, 2))
    changed = ShardSource(root, index_dir=index_dir)
    assert indexed == ["00001.tar"]
    assert [read(changed, index) for index in (3, 4, 5, 6)] == [jpeg(number) for number in (3, 50, 51, 7)]
    (root / "00000.tar").unlink()
    assert len(ShardSource(root, index_dir=index_dir)) == 7
    assert indexed == ["00001.tar"]


def test_workers_receive_the_name_of_the_index(tmp_path: Path):
    write_shards(tmp_path / "set", 300)
    source = ShardSource(tmp_path / "set", index_dir=str(tmp_path / "index"))
    read(source, 3)
    sent = pickle.dumps(source)
    assert len(sent) < 1000
    assert read(pickle.loads(sent), 7) == jpeg(7)


def test_no_images(tmp_path: Path):
    with pytest.raises(ValueError, match=r"no file below it ends in .tar"):
        ShardSource(tmp_path)
    (tmp_path / "x.tar").write_bytes(b"")
    with pytest.raises(ValueError, match=r"no image in the shards .*x.tar: not readable"):
        ShardSource(tmp_path)
    with pytest.raises(ValueError, match="nowhere' does not exist"):
        ShardSource(tmp_path / "nowhere")


def test_compressed_archives_are_said(tmp_path: Path):
    for name in ("a.tar.gz", "b.TGZ"):
        (tmp_path / name).write_bytes(b"x")
    with pytest.raises(ValueError, match=r"2 compressed archives are .*'a.tar.gz'; unpack it: gunzip .*/a.tar.gz"):
        ShardSource(tmp_path)
    write_shards(tmp_path, 3)
    for _ in range(2):
        source = ShardSource(tmp_path, index_dir=str(tmp_path / "index"))
        assert (len(source), len(source.notes)) == (3, 1)
    (tmp_path / "a.tar.gz").unlink()
    (tmp_path / "b.TGZ").unlink()
    assert not ShardSource(tmp_path, index_dir=str(tmp_path / "index")).notes


def test_names_of_shards_that_are_not_files(tmp_path: Path):
    os.mkfifo(tmp_path / "pipe.tar")
    (tmp_path / "folder.tar").mkdir()
    (tmp_path / "gone.tar").symlink_to(tmp_path / "nowhere")
    write_shards(tmp_path / "good", 2)
    source = ShardSource(tmp_path)
    assert len(source) == 2
    assert source.notes == [
        f"{name}: not readable as a tar archive: it is not a file" for name in ("gone.tar", "pipe.tar")
    ]


@pytest.mark.slow
def test_many_shards_are_indexed_in_parallel(tmp_path: Path):
    write_shards(tmp_path, *[3] * 9)
    source = ShardSource(tmp_path)
    assert [read(source, index) for index in range(27)] == [jpeg(number) for number in range(27)]
