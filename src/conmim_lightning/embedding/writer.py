"""Writing the features of each chunk when it is complete."""

import os
from typing import Any

import torch
from lightning import Callback, Trainer
from torch import Tensor

from conmim_lightning.embedding.dataset import EmbeddingBatch
from conmim_lightning.embedding.store import Chunk, ChunkStore


class ChunkWriter(Callback):
    """Collect the features of each chunk and store them at its end.

    Memory: one chunk per loader process.

    Args:
        store: store of the chunks.
    """

    def __init__(self, store: ChunkStore) -> None:
        self.store = store
        self._open: dict[int, list[tuple[dict[str, Tensor], EmbeddingBatch]]] = {}

    def on_predict_batch_end(
        self, trainer: Trainer, pl_module: Any, outputs: Any, batch: Any, batch_idx: int, dataloader_idx: int = 0
    ) -> None:
        """Add a batch, and store its chunk if it was the last one."""
        values = {name: value.cpu() for name, value in outputs.items()}
        batches = self._open.setdefault(batch.chunk, [])
        batches.append((values, batch._replace(image=batch.image[:0], label=batch.label.cpu())))
        if batch.last:
            self.store.write(batch.chunk, _joined(self._open.pop(batch.chunk)))


def _joined(batches: list[tuple[dict[str, Tensor], EmbeddingBatch]]) -> Chunk:
    return Chunk(
        {name: torch.cat([values[name] for values, _ in batches]).numpy() for name in batches[0][0]},
        torch.cat([batch.label for _, batch in batches]).numpy(),
        [os.fsencode(name) for _, batch in batches for name in batch.names],
        [os.fsencode(line) for _, batch in batches for line in batch.broken],
    )
