"""Writing of checkpoints that are complete or absent."""

import io
import os
import shutil
from io import BufferedWriter
from pathlib import Path
from typing import Any, BinaryIO, Literal, cast

import torch
from lightning.fabric.plugins.io.torch_io import TorchCheckpointIO
from lightning.pytorch.utilities import rank_zero_warn

from conmim_lightning.files import replacing

OnWriteError = Literal["stop", "continue"]


class AtomicCheckpointIO(TorchCheckpointIO):
    """Write a checkpoint beside its target, flush it to the disk, and rename it in one step.

    Lightning writes to the folder for temporary files and copies from there if that is another file system, so that a
    process that is killed leaves a truncated file. URLs are written as Lightning does.

    Args:
        on_write_error: "stop" raises the OSError, which names the file; "continue" warns, and the earlier checkpoint
            stays the last one.

    Raises:
        ValueError: on_write_error is unknown.

    Attributes:
        failed: whether the last checkpoint could not be written.
    """

    def __init__(self, on_write_error: OnWriteError = "stop") -> None:
        if on_write_error not in ("stop", "continue"):
            raise ValueError(f"on_write_error must be 'stop' or 'continue', got {on_write_error!r}")
        self.on_write_error = on_write_error
        self.failed = False

    def save_checkpoint(self, checkpoint: dict[str, Any], path: str | Path, storage_options: Any | None = None) -> None:
        """Write the checkpoint; see ``on_write_error``."""
        if "://" in os.fspath(path):
            super().save_checkpoint(checkpoint, path, storage_options)
            return
        self.failed = False
        try:
            _write(checkpoint, Path(path))
        except OSError as error:
            if self.on_write_error == "stop":
                raise
            self.failed = True
            rank_zero_warn(
                f"checkpoint {os.fspath(path)!r} could not be written: {error.strerror}; the run goes on, and the next "
                "save tries again"
            )


def link(path: str, linkpath: str) -> None:
    """Let ``linkpath`` lead to a file in one step; copy the file if the file system has no links."""
    with replacing(linkpath) as temporary:
        try:
            temporary.symlink_to(os.path.relpath(path, Path(linkpath).parent))
        except OSError:
            shutil.copy(path, temporary)


class _Recorder(io.RawIOBase):
    """File that remembers the OSError of a write, which torch replaces by an error of its own."""

    def __init__(self, file: BufferedWriter) -> None:
        self.file = file
        self.error: OSError | None = None

    def write(self, data: Any) -> int:
        try:
            return self.file.write(data)
        except OSError as error:
            self.error = error
            raise

    def flush(self) -> None:
        self.file.flush()


def _write(checkpoint: dict[str, Any], path: Path) -> None:
    with replacing(path) as temporary, temporary.open("wb") as file:
        recorder = _Recorder(file)
        try:
            torch.save(checkpoint, cast(BinaryIO, recorder))
            recorder.flush()
        except Exception as error:
            if recorder.error is None:
                raise
            raise recorder.error from error
        os.fsync(file.fileno())
