from pathlib import Path

import numpy as np
import pytest
from shard_files import jpeg, samples, write_shard, write_shards
from stream_source import stream

from conmim_lightning.data.sources.folder import FolderSource
from conmim_lightning.embedding.chunks import IndexedChunks, StreamChunks, in_chunks


@pytest.fixture
def labelled(tmp_path: Path) -> FolderSource:
    for number in range(5):
        path = tmp_path / "set" / "ab"[number % 2] / f"{number}.jpg"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(jpeg(number) if number else b"")
    return FolderSource(tmp_path / "set", labelled=True)


def test_every_image_is_in_one_chunk(labelled):
    chunks = in_chunks(labelled, 2)
    assert isinstance(chunks, IndexedChunks)
    assert [chunks.count(number) for number in range(len(chunks))] == [2, 2, 1]
    images = [sample for number in range(len(chunks)) for sample in chunks.samples(number, None)]
    assert [sample.name for sample in images] == ["a/0.jpg", "a/2.jpg", "a/4.jpg", "b/1.jpg", "b/3.jpg"]
    assert [sample.label for sample in images] == [0, 0, 0, 1, 1]
    assert [sample.reason for sample in images] == ["Empty: it has no bytes", "", "", "", ""]
    assert images[1].content == jpeg(2)
    assert in_chunks(labelled, 3).fingerprint() != chunks.fingerprint()


def test_the_shards_of_a_stream_are_chunks(tmp_path):
    write_shards(tmp_path, 3, 2)
    write_shard(tmp_path / "00002.tar", samples(9, 1) | {"../x.jpg": b"x"})
    source = stream(tmp_path, shards="{00000..00003}.tar", retries=0)
    chunks = in_chunks(source, 100)
    assert isinstance(chunks, StreamChunks)
    assert len(chunks) == 4
    assert chunks.count(0) is None
    assert [len(list(chunks.samples(number, None))) for number in range(2)] == [3, 2]
    image, left_out = chunks.samples(2, None)
    assert (image.name, image.content) == ("00002.tar/000009.jpg", jpeg(9))
    assert "lead out of the archive" in left_out.reason
    (missing,) = chunks.samples(3, None)
    assert (missing.name, missing.content) == ("00003.tar", None)
    assert "there is no such shard" in missing.reason
    assert next(sample.reason for sample in chunks.samples(0, 10)).startswith("TooLarge")
    source.without({"00000.tar/000001.jpg"})
    assert len(list(chunks.samples(0, None))) == 2
    other = in_chunks(stream(tmp_path, shards="{00000..00001}.tar"), 100)
    assert other.fingerprint() != chunks.fingerprint()
    assert np.unique([sample.label for sample in chunks.samples(1, None)]).tolist() == [-1]
