import numpy as np
import pytest
import torch

from conmim_lightning.embedding.store import Chunk, ChunkStore, digest_of_weights


def chunk(number: int, count: int = 3) -> Chunk:
    features = np.arange(count * 2, dtype=np.float32).reshape(count, 2) + number
    return Chunk({"last1_mean": features}, np.arange(count), [b"a\xff%d" % n for n in range(count)], [b"x\treason"])


def test_chunks_are_read_as_they_were_written(tmp_path):
    store = ChunkStore(tmp_path / "s", {"images": "x"})
    store.create()
    store.write(1, chunk(1))
    store.write(2, chunk(2, count=0))
    assert store.missing(4) == [0, 3]
    again = ChunkStore(tmp_path / "s", {"images": "x"}).read(1, ["last1_mean"])
    assert np.array_equal(again.features["last1_mean"], chunk(1).features["last1_mean"])
    assert again.labels.tolist() == [0, 1, 2]
    assert (again.names, again.broken) == (chunk(1).names, [b"x\treason"])
    assert store.read(2, ["last1_mean"]).features["last1_mean"].shape == (0, 2)
    assert store.read(1, []).features == {}
    store.remove()
    assert not (tmp_path / "s").exists()


def test_a_damaged_chunk(tmp_path):
    store = ChunkStore(tmp_path / "s", {})
    store.write(0, chunk(0))
    path = tmp_path / "s" / "000000.safetensors"
    path.write_bytes(path.read_bytes()[:-4])
    with pytest.raises(ValueError, match=r"000000\.safetensors' is damaged: .*; remove it and continue"):
        store.read(0, ["last1_mean"])


def test_other_settings(tmp_path):
    ChunkStore(tmp_path / "s", {"images": "x", "half": True}).create()
    with pytest.raises(ValueError, match="an interrupted run with other images, weights; remove it"):
        ChunkStore(tmp_path / "s", {"images": "y", "half": True, "weights": "z"})


def test_the_digest_covers_every_weight():
    model = torch.nn.Sequential(torch.nn.Linear(3, 2), torch.nn.BatchNorm1d(2))
    first = digest_of_weights(model)
    assert digest_of_weights(model) == first
    model[1].running_mean += 1e-6
    assert digest_of_weights(model) != first
