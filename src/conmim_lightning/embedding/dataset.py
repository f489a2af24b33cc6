"""Batches of the images of chunks."""

from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple

import torch
from torch import Tensor
from torch.utils.data import DataLoader, IterableDataset, get_worker_info

from conmim_lightning.data.images.decode import Decoder
from conmim_lightning.data.images.files import BrokenImageError
from conmim_lightning.data.images.pixels import AnyImage
from conmim_lightning.data.loaders import start_worker
from conmim_lightning.data.sources.name_list import to_line
from conmim_lightning.embedding.chunks import Chunks


class EmbeddingBatch(NamedTuple):
    """Images of one chunk.

    Attributes:
        image: (B, C, H, W) uint8; B may be 0 at the end of a chunk.
        label: (B,) int64 class from 0; -1 without labels.
        names: B names.
        broken: lines, name, tab, reason, of the images since the last batch that cannot be read.
        chunk: number of the chunk.
        last: whether this is the chunk's last batch.
    """

    image: Tensor
    label: Tensor
    names: Sequence[str]
    broken: Sequence[str]
    chunk: int
    last: bool


class ChunkDataset(IterableDataset[EmbeddingBatch]):
    """Batches of the images of some chunks; each loader process reads other chunks.

    Args:
        chunks: the collection in chunks.
        numbers: numbers of the chunks to read.
        decoder: decoder of the image bytes.
        crop: transform of a decoded image to (C, size, size) uint8.
        size: pixels per side of the images.
        batch_size: images per batch.
    """

    def __init__(
        self,
        chunks: Chunks,
        numbers: Sequence[int],
        *,
        decoder: Decoder,
        crop: Callable[[AnyImage], Tensor],
        size: int,
        batch_size: int,
    ) -> None:
        self.chunks = chunks
        self.numbers = list(numbers)
        self.decoder = decoder
        self.crop = crop
        self.size = size
        self.batch_size = batch_size

    def __iter__(self) -> Iterator[EmbeddingBatch]:
        """Yield the batches, chunk by chunk."""
        worker = get_worker_info()
        first, step = (worker.id, worker.num_workers) if worker else (0, 1)
        for number in self.numbers[first::step]:
            yield from self._batches(number)

    def _batches(self, number: int) -> Iterator[EmbeddingBatch]:
        images: list[Tensor] = []
        labels: list[int] = []
        names: list[str] = []
        broken: list[str] = []
        for sample in self.chunks.samples(number, self.decoder.max_bytes):
            try:
                if sample.content is None:
                    raise BrokenImageError(sample.reason)
                images.append(self.crop(self.decoder.open(sample.content)))
            except BrokenImageError as error:
                broken.append(to_line(sample.name, str(error)))
                continue
            labels.append(sample.label)
            names.append(sample.name)
            if len(images) == self.batch_size:
                yield self._batch(images, labels, names, broken, number, last=False)
                images, labels, names, broken = [], [], [], []
        yield self._batch(images, labels, names, broken, number, last=True)

    def _batch(
        self, images: list[Tensor], labels: list[int], names: list[str], broken: list[str], number: int, *, last: bool
    ) -> EmbeddingBatch:
        empty = torch.empty(0, self.decoder.channels, self.size, self.size, dtype=torch.uint8)
        stacked = torch.stack(images) if images else empty
        return EmbeddingBatch(stacked, torch.tensor(labels, dtype=torch.int64), names, broken, number, last)


def chunk_loader(dataset: ChunkDataset, num_workers: int) -> DataLoader[EmbeddingBatch]:
    """Return a loader of the batches, which the dataset itself makes."""
    return DataLoader(
        dataset,
        batch_size=None,
        num_workers=min(num_workers, len(dataset.numbers)),
        worker_init_fn=start_worker,
        generator=torch.Generator(),
    )
