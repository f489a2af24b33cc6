"""Files that torch wrote, read without executing anything they may carry."""

import argparse
import os
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor


def read_torch(path: str | os.PathLike[str]) -> Any:
    """What a file of ``torch.save`` holds, on the CPU.

    Allowed are tensors, plain Python values and ``argparse.Namespace``, which many training scripts save.

    Raises:
        ValueError: no such file, or not readable without executing code.
    """
    path = os.fspath(path)
    if not os.path.isfile(path):
        raise ValueError(f"checkpoint {path!r} does not exist")
    try:
        with torch.serialization.safe_globals([argparse.Namespace]):
            return torch.load(path, map_location="cpu", weights_only=True, mmap=_is_zip(path))
    except Exception as error:  # whatever the bytes make the reader raise
        raise ValueError(f"{path!r} is no readable checkpoint: {str(error).splitlines()[0]}") from error


def read_checkpoint(path: str | os.PathLike[str]) -> dict[str, Any]:
    """A Lightning checkpoint's content, on the CPU; a folder of a run stands for its last checkpoint.

    Raises:
        ValueError: no such file, or not a checkpoint of a training run.
    """
    path = os.fspath(path)
    if os.path.isdir(path):
        path = os.path.join(path, "checkpoints", "last.ckpt")
    found = read_torch(path)
    if not is_checkpoint(found):
        raise ValueError(f"{path!r} is no checkpoint of a training run: it lacks the training's state")
    return found


def is_checkpoint(found: Any) -> bool:
    """Whether Lightning wrote this."""
    return isinstance(found, dict) and "state_dict" in found and "loops" in found


def is_state(found: Any) -> bool:
    """Whether this is a mapping of names to tensors."""
    return isinstance(found, Mapping) and bool(found) and all(isinstance(value, Tensor) for value in found.values())


def _is_zip(path: str) -> bool:
    """Whether torch can map the file; its files of before 1.6 are no archives."""
    with open(path, "rb") as file:
        return file.read(2) == b"PK"
