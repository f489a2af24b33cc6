"""Checkpoint of a task that is fitted when its test begins."""

from pathlib import Path

from lightning import Callback, LightningModule, Trainer


class SaveAfterTest(Callback):
    """Save a checkpoint at the end of a test.

    Args:
        path: file to write.
    """

    def __init__(self, path: str) -> None:
        self.path = Path(path)

    def on_test_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Save the checkpoint; every device must call this."""
        trainer.save_checkpoint(self.path)
