"""Features of many images, stored on disk so that memory does not grow with their number."""

import contextlib
import shutil
import tempfile
import weakref
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

_CHUNK = 16384

Device = torch.device | str


class FeatureStore:
    """Features (by name) and classes of images, written once and read in chunks.

    Shapes: N images, D width of a feature.

    Args:
        size: largest number of images.
        widths: width D of each feature, by name.
        folder: folder of the float32 files, which are deleted with this object; None for the system's temporary folder.

    Raises:
        ValueError: there is not enough room on the disk.
    """

    def __init__(self, size: int, widths: Mapping[str, int], folder: str | None = None) -> None:
        if folder is not None:
            Path(folder).mkdir(parents=True, exist_ok=True)
        location = tempfile.mkdtemp(prefix="features-", dir=folder)
        needed, free = 4 * size * sum(widths.values()), shutil.disk_usage(location).free
        if needed > free:
            Path(location).rmdir()
            raise ValueError(
                f"features of {size} images need {needed / 2**30:.1f} GiB in {str(Path(location).parent)!r}, where "
                f"{free / 2**30:.1f} GiB are free; set task.folder, or choose fewer task.features"
            )
        weakref.finalize(self, shutil.rmtree, location, ignore_errors=True)
        self._features: dict[str, NDArray[np.float32]] = {}
        for index, (feature, width) in enumerate(widths.items()):
            path = Path(location, f"{index}.npy")
            self._features[feature] = np.lib.format.open_memmap(path, mode="w+", dtype=np.float32, shape=(size, width))
            with contextlib.suppress(OSError):  # where the system allows it, even a killed process leaves no files
                path.unlink()
        self.labels = torch.full((size,), -1)
        self._filled = 0

    def __len__(self) -> int:
        """Return the number of images added so far."""
        return self._filled

    @property
    def features(self) -> list[str]:
        """Names of the features."""
        return list(self._features)

    def add(self, features: Mapping[str, Tensor], labels: Tensor) -> None:
        """Append (B, D) features by name and (B,) classes; images without a class (-1) are left out.

        Raises:
            ValueError: a feature is not finite.
        """
        labelled = labels.cpu() >= 0
        start, stop = self._filled, self._filled + int(labelled.sum())
        for name, values in features.items():
            stored = values.cpu()[labelled].float()
            if not torch.isfinite(stored).all():
                raise ValueError(f"feature {name!r} is not finite; the weights may not suit these images")
            self._features[name][start:stop] = stored.numpy()
        self.labels[start:stop] = labels.cpu()[labelled]
        self._filled = stop

    def chunks(self, feature: str, device: Device, size: int = _CHUNK) -> Iterator[tuple[Tensor, Tensor]]:
        """Yield (n, D) float32 values of a feature and (n,) classes in order, with n at most ``size``."""
        for start in range(0, len(self), size):
            stop = min(start + size, len(self))
            values = torch.from_numpy(np.asarray(self._features[feature][start:stop]))
            yield values.to(device), self.labels[start:stop].to(device)

    def pick(self, indices: Tensor, device: Device) -> tuple[dict[str, Tensor], Tensor]:
        """Return (n, D) float32 features by name and (n,) classes of the images at ``indices``."""
        order = indices.numpy()
        picked = {name: torch.from_numpy(np.asarray(values[order])) for name, values in self._features.items()}
        return {name: values.to(device) for name, values in picked.items()}, self.labels[indices].to(device)


def check_features(features: Sequence[str], widths: Mapping[str, int]) -> None:
    """Raise ValueError for names in ``features`` that are not in ``widths``."""
    if not features or set(features) - set(widths):
        raise ValueError(
            f"a probe needs the features {list(features)}, but those computed are {list(widths)} (task.features)"
        )
