import pytest
import torch
from shard_files import jpeg

from conmim_lightning.data.images.decode import Decoder
from conmim_lightning.data.sources.folder import FolderSource
from conmim_lightning.data.transforms.crop import CenterSquare
from conmim_lightning.embedding.chunks import in_chunks
from conmim_lightning.embedding.dataset import ChunkDataset, chunk_loader


@pytest.fixture
def chunks(tmp_path):
    for number in range(10):
        (tmp_path / f"{number}.jpg").write_bytes(jpeg(number) if number != 4 else b"nothing")
    return in_chunks(FolderSource(tmp_path), 4)


def dataset(chunks, numbers, batch_size=3) -> ChunkDataset:
    return ChunkDataset(
        chunks, numbers, decoder=Decoder(), crop=CenterSquare(8), size=8, batch_size=batch_size
    )  # fmt: skip


@pytest.mark.parametrize("workers", [0, 2])
def test_batches_belong_to_one_chunk(chunks, workers):
    batches = list(chunk_loader(dataset(chunks, range(3)), workers))
    by_chunk = {number: [batch for batch in batches if batch.chunk == number] for number in range(3)}
    assert [[batch.last for batch in by_chunk[number]] for number in range(3)] == [[False, True], [False, True], [True]]
    assert [name for number in range(3) for batch in by_chunk[number] for name in batch.names] == [
        f"{number}.jpg" for number in range(10) if number != 4
    ]
    (line,) = [line for batch in batches for line in batch.broken]
    assert line.startswith("4.jpg\tUnidentifiedImageError")
    expected = CenterSquare(8)(Decoder().open(jpeg(5)))
    assert torch.equal(by_chunk[1][0].image[0], expected)


def test_some_chunks_and_full_batches(chunks):
    batches = list(dataset(chunks, [0], batch_size=2))
    assert [len(batch.names) for batch in batches] == [2, 2, 0]
    assert batches[-1].last
    assert batches[-1].image.shape == (0, 3, 8, 8)
    assert list(dataset(chunks, [])) == []
