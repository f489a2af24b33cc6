"""Images per second of decoders, sources and loaders, and the memory of a loader process."""

import statistics
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import psutil
import torch
from torch import Tensor
from torch.utils.data import default_collate

from conmim_lightning.config.check import Config
from conmim_lightning.data.checks import check_at_least
from conmim_lightning.data.datasets.pretrain import Masking, PretrainDataset
from conmim_lightning.data.images.decode import Decoder
from conmim_lightning.data.loaders import train_loader
from conmim_lightning.data.samplers.epoch import SampleKey
from conmim_lightning.data.sources.base import Source
from conmim_lightning.data.sources.folder import FolderSource
from conmim_lightning.data.sources.manifest import ManifestSource
from conmim_lightning.data.sources.shards.indexed import ShardSource
from conmim_lightning.data.sources.shards.stream import StreamSource
from conmim_lightning.data.synthetic.photos import write_photos
from conmim_lightning.data.transforms.crop import RandomResizedCrop
from conmim_lightning.perturbation.draw import PerturbationDraw
from conmim_lightning.profiling.data.decoders import decoders
from conmim_lightning.profiling.data.reference import OfficialPipeline
from conmim_lightning.runtime.results import Result, Save

_LARGE, _CHUNK = 6, 20  # number of large images; images timed at once


class DataBenchmark:
    """Time the processing of images before they reach the training device, with one thread per process.

    Args:
        root: folder for synthetic photos.
        decoder: decoder of the image bytes to time.
        crop: random crop to time.
        masking: masking rule to time.
        perturbation: sampler of perturbation parameters to time.
        count: number of photos of 500 x 375 pixels.
        rounds: repetitions of all measurements, in turn; medians are reported.
        num_workers: numbers of loader processes to time.
        batch_size: batch size of the loader.

    Raises:
        ValueError: a number is out of range.
    """

    def __init__(
        self,
        *,
        root: str,
        decoder: Decoder,
        crop: RandomResizedCrop,
        masking: Masking,
        perturbation: PerturbationDraw,
        count: int,
        rounds: int,
        num_workers: Sequence[int],
        batch_size: int,
    ) -> None:
        check_at_least(_CHUNK, count=count)
        check_at_least(1, rounds=rounds, batch_size=batch_size)
        self.root = Path(root)
        self.decoder = decoder
        self.crop = crop
        self.masking = masking
        self.perturbation = perturbation
        self.count = count
        self.rounds = rounds
        self.num_workers = list(num_workers)
        self.batch_size = batch_size

    def run(self, config: Config, save: Save) -> Result:
        """Measure everything and return the results by name."""
        torch.set_num_threads(1)
        write_photos(self.root / "small", count=self.count)
        write_photos(self.root / "large", count=_LARGE, width=4000, height=3000)
        sources = self._sources()
        result: Result = {
            "decode_500x375": self._decoding("small"),
            "decode_4000x3000": self._decoding("large"),
        }
        rounds = self._per_core(sources)
        result["per_core"] = {name: statistics.median(rates) for name, rates in rounds.items()}
        pairs = zip(rounds["folder"], rounds["official pipeline"], strict=True)
        ratios = [ours / official for ours, official in pairs]  # ratios within a round, as the machine's speed varies
        result["ratio_to_official"] = statistics.quantiles(ratios, n=4) if len(ratios) > 1 else ratios * 3
        result["bytes_per_image"] = self._bytes(sources["folder"])
        result["loader"] = {str(workers): self._loader(sources["folder"], workers) for workers in self.num_workers}
        return result

    def format(self, result: Result) -> str:
        """Format the results as a table."""
        lines = []
        for title, name in (("decode 500 x 375", "decode_500x375"), ("decode 4000 x 3000", "decode_4000x3000")):
            lines += [f"{title:<20}{variant:<24}{rate:>9.1f} images/s" for variant, rate in result[name].items()]
        lines += [
            f"{'one core, whole':<20}{name:<24}{rate:>9.1f} images/s" for name, rate in result["per_core"].items()
        ]
        low, median, high = result["ratio_to_official"]
        lines.append(f"folder: {median:.2f} times the rate of the official pipeline (quartiles {low:.2f}, {high:.2f})")
        ours, official = result["bytes_per_image"]
        lines.append(
            f"bytes per image to the device: {ours:,}, official {official:,}: a fraction of {ours / official:.3f}"
        )
        for workers, values in result["loader"].items():
            listed = ", ".join(f"{name} {value:.1f}" for name, value in values.items())
            lines.append(f"loader, {workers} processes: {listed}")
        return "\n".join(lines)

    def dataset(self, source: Source) -> PretrainDataset:
        """Return the dataset of samples of a source."""
        return PretrainDataset(
            source,
            decoder=self.decoder,
            crop=self.crop,
            perturbation=self.perturbation,
            masking=self.masking,
            seed=0,
        )

    def _sources(self) -> dict[str, Source]:
        small = self.root / "small"
        last = (self.count - 1) // 500
        stream = StreamSource(
            str(small / "shards"), shards=f"{{00000..{last:05d}}}.tar", samples_per_epoch=self.count, lanes=1
        )
        stream.sampler(seed=0, rank=0, num_devices=1, batch_size=self.batch_size)
        return {
            "folder": FolderSource(small / "folder"),
            "manifest": ManifestSource(small / "folder", manifest=str((small / "list.txt").absolute())),
            "shards": ShardSource(small / "shards"),
            "stream": stream,
        }

    def _decoding(self, size: str) -> dict[str, float]:
        source = FolderSource(self.root / size / "folder")
        contents = [source.read(SampleKey(0, index)) for index in range(min(_CHUNK, len(source)))]
        calls = {name: _for_each(decode, contents) for name, decode in decoders().items()}
        calls["ours, whole to crop size"] = _for_each(self._resize_whole, contents)
        return {name: statistics.median(rates) for name, rates in self._rates(calls, len(contents)).items()}

    def _resize_whole(self, content: bytes) -> Tensor:
        image = self.decoder.open(content)
        return image.region((0, 0, image.width, image.height), self.crop.size)

    def _per_core(self, sources: dict[str, Source]) -> dict[str, list[float]]:
        """Time the way from bytes on disk to a finished sample, in one process."""
        official, folder, chunks = OfficialPipeline(self.crop.size), sources["folder"], _chunks(self.count)
        calls: dict[str, Callable[[], object]] = {
            "official pipeline": lambda: [official(folder.read(SampleKey(0, i))) for i in next(chunks)]
        }
        calls |= {name: self._reading(source) for name, source in sources.items()}
        return self._rates(calls, _CHUNK)

    def _reading(self, source: Source) -> Callable[[], object]:
        dataset, chunks = self.dataset(source), _chunks(self.count)
        return lambda: [dataset[SampleKey(0, index)] for index in next(chunks)]

    def _bytes(self, source: Source) -> tuple[int, int]:
        ours = default_collate([self.dataset(source)[SampleKey(0, 0)]])
        official = OfficialPipeline(self.crop.size)(source.read(SampleKey(0, 0)))
        return _nbytes(ours), _nbytes(official)

    def _loader(self, source: Source, workers: int) -> dict[str, float]:
        """Measure the rate of a loader, the seconds to its first batch, and the memory per process."""
        sampler = source.sampler(seed=0, rank=0, num_devices=1, batch_size=self.batch_size)
        loader = train_loader(
            self.dataset(source), sampler=sampler, batch_size=self.batch_size, num_workers=workers, pin_memory=False
        )
        started = time.perf_counter()
        batches = iter(loader)
        next(batches)
        first = time.perf_counter()
        count = sum(len(batch.index) for batch in batches)
        rate = count / (time.perf_counter() - first)
        memory = [unique_memory(process.pid) for process in getattr(batches, "_workers", [])]
        return {
            "images/s": rate,
            "s to first batch": first - started,
            "MiB per process": statistics.median(memory) if memory else float("nan"),
        }

    def _rates(self, calls: dict[str, Callable[[], object]], count: int) -> dict[str, list[float]]:
        """Return the images per second of each call in each round; calls take turns within a round."""
        rates: dict[str, list[float]] = {name: [] for name in calls}
        for _ in range(self.rounds):
            for name, call in calls.items():
                started = time.process_time()
                call()
                rates[name].append(count / (time.process_time() - started))
        return rates


def loader_seconds(loader: Iterable[Any], *, warmup: int, groups: int, group: int) -> list[float]:
    """Return the seconds of each group of batches of a loader, over as many epochs as needed.

    Args:
        loader: a ``DataLoader``.
        warmup: batches not counted, at least as many as its processes prefetch.
        groups: number of groups.
        group: batches per group; processes deliver in bursts of as many batches as there are processes.
    """
    batches = _endless(loader)
    for _ in range(warmup):
        next(batches)
    durations = []
    for _ in range(groups):
        started = time.perf_counter()
        for _ in range(group):
            next(batches)
        durations.append(time.perf_counter() - started)
    return durations


def unique_memory(process: int) -> float:
    """Return the MiB that a process shares with no other (its USS); NaN if the system does not report it."""
    try:
        return psutil.Process(process).memory_full_info().uss / 2**20
    except psutil.Error:
        return float("nan")


def _endless(loader: Iterable[Any]) -> Iterator[Any]:
    while True:
        yield from loader


def _for_each(decode: Callable[[bytes], object], contents: list[bytes]) -> Callable[[], object]:
    return lambda: [decode(content) for content in contents]


def _chunks(count: int) -> Iterator[range]:
    """Yield, without end, ranges of indices of the images to time."""
    start = 0
    while True:
        yield range(start, start + _CHUNK)
        start = (start + _CHUNK) % (count - _CHUNK + 1)


def _nbytes(values: Iterable[object]) -> int:
    return sum(value.nbytes for value in values if isinstance(value, Tensor))
