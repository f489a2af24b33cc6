"""Benchmark of time and memory before the first batch, for up to a hundred million images."""

import itertools
import math
import pickle
import tempfile
import time
import tracemalloc
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from conmim_lightning.config.check import Config
from conmim_lightning.data.checks import check_at_least
from conmim_lightning.data.datasets.pretrain import Masking, PretrainDataset
from conmim_lightning.data.images.decode import Decoder
from conmim_lightning.data.loaders import train_loader
from conmim_lightning.data.samplers.epoch import EpochSampler, SampleKey
from conmim_lightning.data.sources.array_file import ArrayFile, PackedStrings
from conmim_lightning.data.sources.base import FileSource
from conmim_lightning.data.sources.folder import FolderSource
from conmim_lightning.data.synthetic.photos import write_photos
from conmim_lightning.data.transforms.crop import RandomResizedCrop
from conmim_lightning.perturbation.draw import PerturbationDraw
from conmim_lightning.profiling.data.throughput import unique_memory
from conmim_lightning.runtime.results import Result, Save

_DIGITS = 9
_CHUNK = 1_000_000  # names created at once
_MORE = 8  # batches after the first


class ScalingBenchmark:
    """Measure indexing of synthetic names up to the first batch, the order of an epoch, and a scan of real files.

    Args:
        decoder: decoder of the image bytes in the batches.
        crop: random crop in the batches.
        masking: masking rule in the batches.
        perturbation: sampler of perturbation parameters in the batches.
        names: sizes of collections of names like ``00012/000123456.jpg``, without files.
        orders: sizes of collections whose order is computed.
        files: number of empty files to create and scan, 100 per folder.
        batch_size: size of the first batch.

    Raises:
        ValueError: a number is out of range.
    """

    def __init__(
        self,
        *,
        decoder: Decoder,
        crop: RandomResizedCrop,
        masking: Masking,
        perturbation: PerturbationDraw,
        names: Sequence[int],
        orders: Sequence[int],
        files: int,
        batch_size: int = 256,
    ) -> None:
        check_at_least(1, files=files, batch_size=batch_size)
        check_at_least(batch_size, **{f"size {size}": size for size in (*names, *orders)})
        self.transforms = {
            "decoder": decoder,
            "crop": crop,
            "masking": masking,
            "perturbation": perturbation,
        }
        self.names = list(names)
        self.orders = list(orders)
        self.files = files
        self.batch_size = batch_size

    def run(self, config: Config, save: Save) -> Result:
        """Measure everything and return the results by name."""
        with tempfile.TemporaryDirectory() as folder:
            result: Result = {"index": {str(size): self._index(size, Path(folder)) for size in self.names}}
            result["scan"] = self._scan(Path(folder))
        result["order"] = {str(size): self._order(size) for size in self.orders}
        return result

    def format(self, result: Result) -> str:
        """Format the results as lines."""
        sections = [("index of", result["index"]), ("scan of", result["scan"]), ("order of", result["order"])]
        return "\n".join(
            f"{title} {int(size):>11,}: " + ", ".join(f"{name} {value:,.4g}" for name, value in values.items())
            for title, sizes in sections
            for size, values in sizes.items()
        )

    def _index(self, size: int, folder: Path) -> dict[str, float]:
        """Measure a collection's index, from reading its file to the first batch with one loader process."""
        names = synthetic_names(size)
        path = folder / f"{size}.index"
        ArrayFile({}, {"text": names.text, "ends": names.ends, "top": np.zeros(size, np.int32)}).save(path)
        index_bytes, image = path.stat().st_size, _image(folder)
        del names
        started = time.perf_counter()
        source = _OneImage(path, image)
        opened = time.perf_counter()
        loader = train_loader(
            PretrainDataset(source, seed=0, **self.transforms),
            sampler=EpochSampler(size, seed=0),
            batch_size=self.batch_size,
            num_workers=1,
            pin_memory=False,
        )
        batches = iter(loader)
        next(batches)
        first = time.perf_counter()
        more = sum(1 for _ in itertools.islice(batches, _MORE))
        ended = time.perf_counter()
        memory = unique_memory(batches._workers[0].pid)  # type: ignore[attr-defined]
        path.unlink()
        return {
            "bytes per image": index_bytes / size,
            "bytes to a worker": len(pickle.dumps(source)),
            "s to open": opened - started,
            "s to first batch": first - started,
            "ms per image after it": 1000 * (ended - first) / (self.batch_size * more) if more else math.nan,
            "MiB of the worker": memory,
        }

    def _scan(self, folder: Path) -> dict[str, dict[str, float]]:
        root = folder / "tree"
        for index in range(self.files):
            if index % 100 == 0:
                (root / f"{index // 10_000:03d}" / f"{index // 100:06d}").mkdir(parents=True)
            (root / f"{index // 10_000:03d}" / f"{index // 100:06d}" / f"{index:09d}.jpg").touch()
        started = time.perf_counter()
        FolderSource(root, index_dir=str(folder / "index"))
        scanned = time.perf_counter()
        time.sleep(2.1)  # a folder that changed within two seconds is scanned again
        FolderSource(root, index_dir=str(folder / "index"))
        restarted = time.perf_counter()
        FolderSource(root, index_dir=str(folder / "index"))
        return {str(self.files): {"s": scanned - started, "s from the index": time.perf_counter() - restarted}}

    def _order(self, size: int) -> dict[str, float]:
        """Measure the time to the first keys of an epoch and to keys in its middle, and their memory."""
        first, middle = self._first_keys(size, 0), self._first_keys(size, size // 2)
        tracemalloc.start()
        self._first_keys(size, size // 2)
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        return {"s to first keys": first, "s in the middle": middle, "peak MiB": peak / 2**20}

    def _first_keys(self, size: int, consumed: int) -> float:
        """Return the seconds until the sample keys of a batch of a resumed epoch are known."""
        started = time.perf_counter()
        sampler = EpochSampler(size, seed=0)
        sampler.resume(0, consumed)
        keys = iter(sampler)
        for _ in range(self.batch_size):
            next(keys)
        return time.perf_counter() - started


def synthetic_names(size: int) -> PackedStrings:
    """Return names of the form ``00012/000123456.jpg``."""
    chunks = []
    for first in range(0, size, _CHUNK):
        numbers = np.arange(first, min(first + _CHUNK, size))
        digits = (numbers[:, None] // 10 ** np.arange(_DIGITS - 1, -1, -1)[None] % 10 + ord("0")).astype(np.uint8)
        slash, suffix = np.full((len(numbers), 1), ord("/"), np.uint8), np.frombuffer(b".jpg", np.uint8)
        chunks.append(np.hstack([digits[:, :5], slash, digits, np.broadcast_to(suffix, (len(numbers), 4))]))
    text = np.concatenate(chunks)
    return PackedStrings(text.reshape(-1), np.arange(1, size + 1, dtype=np.int64) * text.shape[1])


def _image(folder: Path) -> bytes:
    write_photos(folder / "photo", count=1)
    return FolderSource(folder / "photo" / "folder").read(SampleKey(0, 0))


class _OneImage(FileSource):
    """Source with many names for one image."""

    def __init__(self, path: Path, content: bytes) -> None:
        self.index = ArrayFile.load(path)
        super().__init__("", PackedStrings(self.index["text"], self.index["ends"]))
        self.content = content

    def __getstate__(self) -> dict[str, object]:
        return {"index": self.index}

    def read(self, key: SampleKey, max_bytes: int | None = None) -> bytes:
        """Return the bytes of the image."""
        self.names[key.index]
        return self.content
