import torch

from conmim_lightning.embedding.dataset import EmbeddingBatch
from conmim_lightning.embedding.store import ChunkStore
from conmim_lightning.embedding.writer import ChunkWriter


def test_interleaved_chunks_are_stored_when_they_are_complete(tmp_path):
    store = ChunkStore(tmp_path / "s", {})
    writer = ChunkWriter(store)
    for chunk, first, last in ((0, 0, False), (1, 10, False), (0, 2, True), (1, 12, True)):
        names = [f"{first}.jpg", f"{first + 1}.jpg"]
        batch = EmbeddingBatch(torch.zeros(2, 3, 8, 8), torch.tensor([0, 1]), names, [f"{first}x\tbad"], chunk, last)
        writer.on_predict_batch_end(None, None, {"a": torch.full((2, 4), float(first))}, batch, 0)
        assert store.missing(2) == {0: [0, 1], 10: [0, 1], 2: [1], 12: []}[first]
    stored = store.read(1, ["a"])
    assert stored.features["a"][:, 0].tolist() == [10, 10, 12, 12]
    assert stored.names == [b"10.jpg", b"11.jpg", b"12.jpg", b"13.jpg"]
    assert stored.broken == [b"10x\tbad", b"12x\tbad"]
    assert stored.labels.tolist() == [0, 1, 0, 1]
