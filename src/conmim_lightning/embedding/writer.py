"""Writing the features of each chunk when it is complete."""

import os
from typing import Any, NoReturn

import torch
from lightning import Callback, Trainer
from torch import Tensor
from tqdm import tqdm

from conmim_lightning.embedding.dataset import EmbeddingBatch
from conmim_lightning.embedding.store import Chunk, ChunkStore


class ChunkWriter(Callback):
    """Collect the features of each chunk and store them at its end.

    Memory: one chunk per loader process.

    Args:
        store: store of the chunks.
        total: number of images of this device, for the progress bar; None if it is not known.
    """

    def __init__(self, store: ChunkStore, total: int | None = None) -> None:
        self.store = store
        self.total = total
        self._bar: tqdm[NoReturn] | None = None
        self._open: dict[int, list[tuple[dict[str, Tensor], EmbeddingBatch]]] = {}

    def on_predict_start(self, trainer: Trainer, pl_module: Any) -> None:
        """Show a progress bar on the first device."""
        self._bar = tqdm(total=self.total, desc="embedding", unit="img", disable=not trainer.is_global_zero)

    def on_predict_end(self, trainer: Trainer, pl_module: Any) -> None:
        """End the progress bar."""
        if self._bar is not None:
            self._bar.close()

    def on_predict_batch_end(
        self, trainer: Trainer, pl_module: Any, outputs: Any, batch: Any, batch_idx: int, dataloader_idx: int = 0
    ) -> None:
        """Add a batch, and store its chunk if it was the last one."""
        values = {name: value.cpu() for name, value in outputs.items()}
        batches = self._open.setdefault(batch.chunk, [])
        batches.append((values, batch._replace(image=batch.image[:0], label=batch.label.cpu())))
        if self._bar is not None:
            self._bar.update(len(batch.names) + len(batch.broken))
        if batch.last:
            self.store.write(batch.chunk, _joined(self._open.pop(batch.chunk)))


def _joined(batches: list[tuple[dict[str, Tensor], EmbeddingBatch]]) -> Chunk:
    return Chunk(
        {name: torch.cat([values[name] for values, _ in batches]).numpy() for name in batches[0][0]},
        torch.cat([batch.label for _, batch in batches]).numpy(),
        [os.fsencode(name) for _, batch in batches for name in batch.names],
        [os.fsencode(line) for _, batch in batches for line in batch.broken],
    )
