"""Features on disk while they are computed: one file per chunk, so that an interrupted run continues."""

import hashlib
import json
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save_file
from torch import nn

from conmim_lightning.data.sources.array_file import PackedStrings
from conmim_lightning.files import naming, replacing, write_text

Arrays = dict[str, NDArray[Any]]
_OWN = ("label", "name_text", "name_ends", "broken_text", "broken_ends")


class Chunk(NamedTuple):
    """The features of a chunk.

    Attributes:
        features: by name, (n, ...) of its n readable images.
        labels: (n,) int64.
        names: n names.
        broken: lines of its unreadable images.
    """

    features: Arrays
    labels: NDArray[np.int64]
    names: Sequence[bytes]
    broken: Sequence[bytes]


class ChunkStore:
    """The folder of the files of chunks.

    Args:
        folder: the folder.
        settings: everything that the features depend on.

    Raises:
        ValueError: the folder is of other settings.
    """

    def __init__(self, folder: Path, settings: Mapping[str, Any]) -> None:
        self.folder = folder
        self.settings = dict(settings)
        path = folder / "settings.json"
        if path.is_file():
            stored = json.loads(path.read_text("utf-8"))
            differing = [name for name in self.settings if stored.get(name) != self.settings[name]]
            if differing:
                raise ValueError(
                    f"{str(folder)!r} holds features of an interrupted run with other {', '.join(differing)}; "
                    "remove it, or choose another output"
                )

    def create(self) -> None:
        """Create the folder."""
        write_text(self.folder / "settings.json", json.dumps(self.settings, indent=1))

    def missing(self, count: int) -> list[int]:
        """Return the numbers, of ``count`` chunks, that are not stored."""
        return [number for number in range(count) if not self._path(number).is_file()]

    def write(self, number: int, chunk: Chunk) -> None:
        """Store a chunk, completely or not at all."""
        names, broken = PackedStrings.of(chunk.names), PackedStrings.of(chunk.broken)
        own = dict(zip(_OWN, (chunk.labels, names.text, names.ends, broken.text, broken.ends), strict=True))
        arrays = {name: np.ascontiguousarray(values) for name, values in {**chunk.features, **own}.items()}
        with replacing(self._path(number)) as temporary:
            save_file(arrays, temporary)

    def read(self, number: int, features: Sequence[str]) -> Chunk:
        """Read a stored chunk, of its features those of these names; ValueError if its file is damaged."""
        try:
            with naming(self._path(number)), safe_open(self._path(number), framework="numpy") as file:
                arrays = {name: file.get_tensor(name) for name in (*_OWN, *features)}
        except SafetensorError as error:
            raise ValueError(f"{str(self._path(number))!r} is damaged: {error}; remove it and continue") from error
        labels, *packed = (arrays.pop(name) for name in _OWN)
        names, broken = PackedStrings(*packed[:2]), PackedStrings(*packed[2:])
        return Chunk(arrays, labels, [names[i] for i in range(len(names))], [broken[i] for i in range(len(broken))])

    def remove(self) -> None:
        """Remove the folder."""
        shutil.rmtree(self.folder)

    def _path(self, number: int) -> Path:
        return self.folder / f"{number:06d}.safetensors"


def digest_of_weights(model: nn.Module) -> str:
    """Return a digest of all weights of a model."""
    digest = hashlib.blake2b(digest_size=16)
    for name, value in model.state_dict().items():
        digest.update(name.encode())
        digest.update(value.detach().cpu().contiguous().flatten().view(torch.uint8).numpy().data)
    return digest.hexdigest()
