"""Features of many images, kept on disk so that memory does not grow with them."""

import contextlib
import shutil
import tempfile
import weakref
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

_CHUNK = 16384


class Rows:
    """Features by way and classes of images, written once, read in chunks.

    Shapes: N images, D length of a way's features.

    Args:
        size: room for so many images.
        widths: D by way.
        folder: for the files, float16, which are removed with this object; None takes the system's for such files.

    Raises:
        ValueError: there is not enough room on the disk.
    """

    def __init__(self, size: int, widths: Mapping[str, int], folder: str | None = None) -> None:
        if folder is not None:
            Path(folder).mkdir(parents=True, exist_ok=True)
        place = tempfile.mkdtemp(prefix="features-", dir=folder)
        needed, free = 2 * size * sum(widths.values()), shutil.disk_usage(place).free
        if needed > free:
            Path(place).rmdir()
            raise ValueError(
                f"features of {size} images need {needed / 2**30:.1f} GiB in {str(Path(place).parent)!r}, where "
                f"{free / 2**30:.1f} GiB are free; set task.folder, or read fewer task.features"
            )
        weakref.finalize(self, shutil.rmtree, place, ignore_errors=True)
        self._features: dict[str, Any] = {}
        for number, (way, width) in enumerate(widths.items()):
            path = Path(place, f"{number}.npy")
            self._features[way] = np.lib.format.open_memmap(path, mode="w+", dtype=np.float16, shape=(size, width))
            with contextlib.suppress(OSError):  # where the system allows it, a killed process leaves nothing behind
                path.unlink()
        self.labels = torch.full((size,), -1)
        self._filled = 0

    def __len__(self) -> int:
        """Images so far."""
        return self._filled

    @property
    def ways(self) -> list[str]:
        """Names of the ways."""
        return list(self._features)

    def add(self, features: Mapping[str, Tensor], labels: Tensor) -> None:
        """Append (B, D) features by way and (B,) classes; those without a class, -1, are left out.

        Raises:
            ValueError: a feature is beyond what float16 holds, or not finite.
        """
        known = labels.cpu() >= 0
        start, stop = self._filled, self._filled + int(known.sum())
        for way, values in features.items():
            half = values.cpu()[known].half()
            if not torch.isfinite(half).all():
                raise ValueError(f"features {way!r} are not finite in float16; the weights seem unfit for these images")
            self._features[way][start:stop] = half.numpy()
        self.labels[start:stop] = labels.cpu()[known]
        self._filled = stop

    def chunks(self, way: str, device: Any, size: int = _CHUNK) -> Iterator[tuple[Tensor, Tensor]]:
        """(n, D) float32 features of a way and (n,) classes, in order, n at most ``size``."""
        for start in range(0, len(self), size):
            stop = min(start + size, len(self))
            part = torch.from_numpy(np.asarray(self._features[way][start:stop]))
            yield part.to(device).float(), self.labels[start:stop].to(device)

    def pick(self, numbers: Tensor, device: Any) -> tuple[dict[str, Tensor], Tensor]:
        """(n, D) float32 features by way and (n,) classes of some images."""
        order = numbers.numpy()
        found = {way: torch.from_numpy(np.asarray(values[order])) for way, values in self._features.items()}
        return {way: values.to(device).float() for way, values in found.items()}, self.labels[numbers].to(device)


def check_ways(ways: Sequence[str], widths: Mapping[str, int]) -> None:
    """Raise ValueError for ways to read features that are not computed."""
    if not ways or set(ways) - set(widths):
        raise ValueError(f"a probe reads features {list(ways)}, but those computed are {list(widths)} (task.features)")
