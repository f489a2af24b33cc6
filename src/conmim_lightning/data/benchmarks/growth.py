"""What a collection costs before the first batch, as it grows to a hundred million images."""

import itertools
import math
import pickle
import tempfile
import time
import tracemalloc
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from conmim_lightning.data.benchmarks.rates import own_memory
from conmim_lightning.data.checks import at_least
from conmim_lightning.data.datasets import PretrainDataset
from conmim_lightning.data.folder import FolderSource
from conmim_lightning.data.loaders import train_loader
from conmim_lightning.data.mapped import Arrays, Names
from conmim_lightning.data.sampler import EpochSampler, SampleKey
from conmim_lightning.data.sources import FileSource

_DIGITS = 9
_AT_ONCE = 1_000_000
_MORE = 8  # batches after the first


class GrowthBenchmark:
    """Indexes of so many made names, and the way from one to the first batch; and a scan of so many real files.

    Args:
        data: the data module whose crop, masking, perturbation and decoder make the batch.
        names: sizes of collections; names like ``00012/000123456.jpg``, no files.
        orders: sizes of collections whose order is begun.
        files: empty files to make and scan, 100 a folder.
        batch_size: of the first batch.

    Raises:
        ValueError: a number is out of range.
    """

    def __init__(
        self, *, data: Any, names: Sequence[int], orders: Sequence[int], files: int, batch_size: int = 256
    ) -> None:
        at_least(1, files=files, batch_size=batch_size)
        at_least(batch_size, **{f"size {size}": size for size in (*names, *orders)})
        self.data = data
        self.names = list(names)
        self.orders = list(orders)
        self.files = files
        self.batch_size = batch_size

    def run(self) -> dict[str, Any]:
        """Measure everything; figures by name."""
        with tempfile.TemporaryDirectory() as folder:
            found: dict[str, Any] = {"index": {str(size): self._index(size, Path(folder)) for size in self.names}}
            found["scan"] = self._scan(Path(folder))
        found["order"] = {str(size): self._order(size) for size in self.orders}
        return found

    def told(self, found: dict[str, Any]) -> str:
        """The figures as lines."""
        parts = [("index of", found["index"]), ("scan of", found["scan"]), ("order of", found["order"])]
        return "\n".join(
            f"{what} {int(size):>11,}: " + ", ".join(f"{name} {value:,.4g}" for name, value in figures.items())
            for what, sizes in parts
            for size, figures in sizes.items()
        )

    def _index(self, size: int, folder: Path) -> dict[str, float]:
        """A collection's names, and the whole way to its first batch with one loader process."""
        names = made_names(size)
        path = folder / f"{size}.index"
        Arrays({}, {"text": names.text, "ends": names.ends, "top": np.zeros(size, np.int32)}).save(path)
        size_in_bytes, picture = path.stat().st_size, self._picture(folder)
        del names
        started = time.perf_counter()
        source = _OneImage(path, picture)
        opened = time.perf_counter()
        data = self.data
        dataset = PretrainDataset(
            source, decoder=data.decoder, crop=data.crop, perturbation=data.draw, masking=data.masking, seed=0
        )
        sampler = EpochSampler(size, seed=0)
        loader = train_loader(dataset, sampler=sampler, batch_size=self.batch_size, num_workers=1, pin_memory=False)
        batches = iter(loader)
        next(batches)
        first = time.perf_counter()
        more = sum(1 for _ in itertools.islice(batches, _MORE))
        ended = time.perf_counter()
        memory = own_memory(batches._workers[0].pid)  # type: ignore[attr-defined]
        sent = len(pickle.dumps(source))
        path.unlink()
        return {
            "bytes an image": size_in_bytes / size,
            "bytes to a worker": sent,
            "s to open": opened - started,
            "s to first batch": first - started,
            "ms an image after it": 1000 * (ended - first) / (self.batch_size * more) if more else math.nan,
            "MiB of the worker's own": memory,
        }

    def _picture(self, folder: Path) -> bytes:
        from conmim_lightning.data.benchmarks.photos import write_photos

        write_photos(folder / "photo", count=1)
        return FolderSource(folder / "photo" / "folder").read(SampleKey(0, 0))

    def _scan(self, folder: Path) -> dict[str, dict[str, float]]:
        root = folder / "tree"
        for number in range(self.files):
            if number % 100 == 0:
                (root / f"{number // 10_000:03d}" / f"{number // 100:06d}").mkdir(parents=True)
            (root / f"{number // 10_000:03d}" / f"{number // 100:06d}" / f"{number:09d}.jpg").touch()
        started = time.perf_counter()
        FolderSource(root, index_dir=str(folder / "index"))
        scanned = time.perf_counter()
        time.sleep(2.1)  # a folder that changed within two seconds is scanned again
        FolderSource(root, index_dir=str(folder / "index"))
        started_again = time.perf_counter()
        FolderSource(root, index_dir=str(folder / "index"))
        return {str(self.files): {"s": scanned - started, "s from the index": time.perf_counter() - started_again}}

    def _order(self, size: int) -> dict[str, float]:
        """The first batch's keys of an epoch, those in its middle, and the memory for them."""
        begin, middle = self._first_keys(size, 0), self._first_keys(size, size // 2)
        tracemalloc.start()
        self._first_keys(size, size // 2)
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        return {"s to first keys": begin, "s in the middle": middle, "MiB at most": peak / 2**20}

    def _first_keys(self, size: int, consumed: int) -> float:
        """Seconds until a batch's keys of a resumed epoch are known."""
        started = time.perf_counter()
        sampler = EpochSampler(size, seed=0)
        sampler.resume(0, consumed)
        keys = iter(sampler)
        for _ in range(self.batch_size):
            next(keys)
        return time.perf_counter() - started


def made_names(size: int) -> Names:
    """``00012/000123456.jpg`` and so on."""
    parts = []
    for first in range(0, size, _AT_ONCE):
        numbers = np.arange(first, min(first + _AT_ONCE, size))
        digits = (numbers[:, None] // 10 ** np.arange(_DIGITS - 1, -1, -1)[None] % 10 + ord("0")).astype(np.uint8)
        folders = digits[:, :5]
        slash, suffix = np.full((len(numbers), 1), ord("/"), np.uint8), np.frombuffer(b".jpg", np.uint8)
        parts.append(np.hstack([folders, slash, digits, np.broadcast_to(suffix, (len(numbers), 4))]))
    text = np.concatenate(parts)
    return Names(text.reshape(-1), np.arange(1, size + 1, dtype=np.int64) * text.shape[1])


class _OneImage(FileSource):
    """Many names, one image behind all of them."""

    def __init__(self, path: Path, content: bytes) -> None:
        self.index = Arrays.load(path)
        super().__init__("", Names(self.index["text"], self.index["ends"]))
        self.content = content

    def __getstate__(self) -> dict[str, object]:
        return {"index": self.index}

    def read(self, key: SampleKey, max_bytes: int | None = None) -> bytes:
        """The one image."""
        self.names[key.index]
        return self.content
