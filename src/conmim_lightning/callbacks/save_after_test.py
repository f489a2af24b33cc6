"""Checkpoint of a task that is fitted when its test begins."""

from pathlib import Path

from lightning import Callback, LightningModule, Trainer
from lightning.fabric.plugins.io.torch_io import TorchCheckpointIO

from conmim_lightning.callbacks.checkpoint_io import AtomicCheckpointIO


class SaveAfterTest(Callback):
    """Save a checkpoint at the end of a test.

    Args:
        path: file to write.
    """

    def __init__(self, path: str) -> None:
        self.path = Path(path)

    def on_test_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Save the checkpoint; every device must call this."""
        if type(trainer.strategy.checkpoint_io) is TorchCheckpointIO:
            trainer.strategy.checkpoint_io = AtomicCheckpointIO()
        trainer.save_checkpoint(self.path)
