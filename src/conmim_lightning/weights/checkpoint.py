"""Reading of files that torch wrote, without executing code in them."""

import argparse
import os
import zipfile
import zlib
from collections.abc import Mapping
from pathlib import Path, PosixPath, PurePosixPath, PureWindowsPath
from typing import Any, TypeGuard

import numpy as np
import torch
from torch import Tensor


def _plain_dictionary(factory: object = None) -> dict[Any, Any]:
    """Stand for ``defaultdict``, which torch's reader cannot fill."""
    return {}


_scalar: Any = np.float64(0).__reduce__()[0]
_HARMLESS: list[Any] = [
    *(argparse.Namespace, dict, list, set, int, float),
    (_plain_dictionary, "collections.defaultdict"),
    *(PurePosixPath, PosixPath, PureWindowsPath),
    *(_scalar, (_scalar, "numpy.core.multiarray.scalar"), np.dtype),
    *(type(np.dtype(kind)) for kind in ("bool", "int32", "int64", "float16", "float32", "float64")),
]
"""What checkpoints may name besides tensors; none of it executes code."""

Checkpoint = dict[str, Any]
"""Content of a Lightning checkpoint."""


def read_torch(path: str | os.PathLike[str]) -> object:
    """Read the content of a ``torch.save`` file to the CPU.

    The file may contain tensors, plain Python values, and what many training scripts save beside them:
    ``argparse.Namespace``, paths, ``defaultdict`` and scalars of numpy. None of these executes code.

    Raises:
        ValueError: the file does not exist, or cannot be read without executing code.
    """
    path = os.fspath(path)
    if not os.path.isfile(path):
        raise ValueError(f"checkpoint {path!r} does not exist")
    if is_zip := _is_zip(path):
        _check_entries(path)
    try:
        with torch.serialization.safe_globals(_HARMLESS):
            return torch.load(path, map_location="cpu", weights_only=True, mmap=is_zip)
    except Exception as error:  # damaged files may raise any exception
        raise ValueError(f"{path!r} is not a readable checkpoint: {first_line(error)}") from error


def read_checkpoint(path: str | os.PathLike[str]) -> Checkpoint:
    """Read a Lightning checkpoint to the CPU; for the folder of a run, read its last checkpoint.

    Raises:
        ValueError: the file does not exist, or is not a checkpoint of a training run.
    """
    path = os.fspath(path)
    if os.path.isdir(path):
        path = os.path.join(path, "checkpoints", "last.ckpt")
    content = read_torch(path)
    if not is_checkpoint(content):
        raise ValueError(f"{path!r} is not a checkpoint of a training run: it lacks the training state")
    return content


def is_run(path: Path) -> bool:
    """Return whether a path is that of a checkpoint of this project, or the folder of a run."""
    return path.suffix == ".ckpt" or (path / "checkpoints").is_dir()


def is_checkpoint(content: object) -> TypeGuard[Checkpoint]:
    """Return whether the content is a Lightning checkpoint."""
    return isinstance(content, dict) and "state_dict" in content and "loops" in content


def is_state(content: object) -> TypeGuard[Mapping[str, Tensor]]:
    """Return whether the content is a mapping of names to tensors."""
    return (
        isinstance(content, Mapping) and bool(content) and all(isinstance(value, Tensor) for value in content.values())
    )


def first_line(error: Exception) -> str:
    """Return the first line of an error's message, or its type if it has none."""
    return next(iter(str(error).splitlines()), type(error).__name__)


def _check_entries(path: str) -> None:
    """Raise ValueError if the content of an archive's entry differs from its checksum: torch does not compare them."""
    try:
        with zipfile.ZipFile(path) as archive:
            damaged = archive.testzip()
    except (OSError, zipfile.BadZipFile, NotImplementedError, RuntimeError, zlib.error) as error:
        raise ValueError(f"{path!r} is not a readable checkpoint: {error}") from error
    if damaged is not None:
        raise ValueError(f"{path!r} is damaged: the content of its entry {damaged!r} differs from its checksum")


def _is_zip(path: str) -> bool:
    """Return whether torch can memory-map the file; files from before torch 1.6 are not zip archives."""
    with open(path, "rb") as file:
        return file.read(2) == b"PK"
