"""Images a second of decoders, sources and loaders, and what a loader process costs in memory."""

import statistics
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import torch
from torch.utils.data import default_collate

from conmim_lightning.data.benchmarks.decoders import decoders
from conmim_lightning.data.benchmarks.official import OfficialPipeline
from conmim_lightning.data.benchmarks.photos import write_photos
from conmim_lightning.data.checks import at_least
from conmim_lightning.data.datasets import PretrainDataset
from conmim_lightning.data.folder import FolderSource
from conmim_lightning.data.loaders import train_loader
from conmim_lightning.data.manifest import ManifestSource
from conmim_lightning.data.sampler import SampleKey
from conmim_lightning.data.shards import ShardSource
from conmim_lightning.data.sources import Source
from conmim_lightning.data.stream import StreamSource

_FEW, _CHUNK = 6, 20  # large images; images timed at once


class DataBenchmark:
    """Times what happens to images before they reach the training device, one thread a process.

    Args:
        root: folder for the made photographs.
        data: the data module whose crop, masking, perturbation and decoder are timed.
        count: photographs of 500 x 375 pixels.
        rounds: of everything, in turn; medians are told.
        num_workers: numbers of loader processes to time.
        batch_size: of the loader.

    Raises:
        ValueError: a number is out of range.
    """

    def __init__(
        self, *, root: str, data: Any, count: int, rounds: int, num_workers: Sequence[int], batch_size: int
    ) -> None:
        at_least(_CHUNK, count=count)
        at_least(1, rounds=rounds, batch_size=batch_size)
        self.root = Path(root)
        self.data = data
        self.count = count
        self.rounds = rounds
        self.num_workers = list(num_workers)
        self.batch_size = batch_size

    def run(self) -> dict[str, Any]:
        """Measure everything; figures by name."""
        torch.set_num_threads(1)
        write_photos(self.root / "small", count=self.count)
        write_photos(self.root / "large", count=_FEW, width=4000, height=3000)
        sources = self._sources()
        found: dict[str, Any] = {"decode_500x375": self._decoding("small"), "decode_4000x3000": self._decoding("large")}
        rounds = self._per_core(sources)
        found["per_core"] = {name: statistics.median(rates) for name, rates in rounds.items()}
        pairs = zip(rounds["folder"], rounds["official work"], strict=True)
        ratios = [ours / theirs for ours, theirs in pairs]  # of the same round, as the machine's speed varies
        found["ratio_to_official"] = statistics.quantiles(ratios, n=4) if len(ratios) > 1 else ratios * 3
        found["bytes_an_image"] = self._bytes(sources["folder"])
        found["loader"] = {str(workers): self._loader(sources["folder"], workers) for workers in self.num_workers}
        return found

    def told(self, found: dict[str, Any]) -> str:
        """The figures as a table."""
        lines = []
        for title, name in (("decode 500 x 375", "decode_500x375"), ("decode 4000 x 3000", "decode_4000x3000")):
            lines += [f"{title:<20}{who:<24}{rate:>9.1f} images/s" for who, rate in found[name].items()]
        lines += [f"{'one core, whole':<20}{who:<24}{rate:>9.1f} images/s" for who, rate in found["per_core"].items()]
        low, middle, high = found["ratio_to_official"]
        lines.append(f"folder is {middle:.2f} times the official work (quartiles {low:.2f}, {high:.2f})")
        ours, theirs = found["bytes_an_image"]
        lines.append(f"bytes an image to the device: {ours:,}, official {theirs:,}: {ours / theirs:.3f} of them")
        for workers, figures in found["loader"].items():
            told = ", ".join(f"{name} {value:.1f}" for name, value in figures.items())
            lines.append(f"loader, {workers} processes: {told}")
        return "\n".join(lines)

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

    def _decoding(self, which: str) -> dict[str, float]:
        source = FolderSource(self.root / which / "folder")
        contents = [source.read(SampleKey(0, index)) for index in range(min(_CHUNK, len(source)))]
        ways = {name: _each(decode, contents) for name, decode in decoders().items()}
        size = self.data.crop.size
        ways["ours, centre to crop size"] = _each(lambda content: self._centre(content, size), contents)
        return {name: statistics.median(rates) for name, rates in self._rates(ways, len(contents)).items()}

    def _centre(self, content: bytes, size: int) -> Any:
        picture = self.data.decoder.open(content)
        return picture.region((0, 0, picture.width, picture.height), size)

    def _per_core(self, sources: dict[str, Source]) -> dict[str, list[float]]:
        """Bytes on disk to a finished sample, in one process."""
        official, folder, turns = OfficialPipeline(self.data.crop.size), sources["folder"], _turns(self.count)
        ways = {"official work": lambda: [official(folder.read(SampleKey(0, i))) for i in next(turns)]}
        ways |= {name: self._reading(source) for name, source in sources.items()}
        return self._rates(ways, _CHUNK)

    def _reading(self, source: Source) -> Callable[[], Any]:
        dataset, turns = self._dataset(source), _turns(self.count)
        return lambda: [dataset[SampleKey(0, index)] for index in next(turns)]

    def _dataset(self, source: Source) -> PretrainDataset:
        data = self.data
        return PretrainDataset(
            source, decoder=data.decoder, crop=data.crop, perturbation=data.draw, masking=data.masking, seed=0
        )

    def _bytes(self, source: Source) -> tuple[int, int]:
        ours = default_collate([self._dataset(source)[SampleKey(0, 0)]])
        theirs = OfficialPipeline(self.data.crop.size)(source.read(SampleKey(0, 0)))
        return _nbytes(ours), _nbytes(theirs)

    def _loader(self, source: Source, workers: int) -> dict[str, float]:
        """Rate of a whole loader, seconds to its first batch, and memory of its own of a process."""
        sampler = source.sampler(seed=0, rank=0, num_devices=1, batch_size=self.batch_size)
        loader = train_loader(
            self._dataset(source), sampler=sampler, batch_size=self.batch_size, num_workers=workers, pin_memory=False
        )
        started = time.perf_counter()
        batches = iter(loader)
        next(batches)
        first = time.perf_counter()
        count = sum(len(batch.index) for batch in batches)
        rate = count / (time.perf_counter() - first)
        processes = [process.pid for process in getattr(batches, "_workers", [])]
        memory = [own_memory(process) for process in processes]
        return {
            "images/s": rate,
            "s to first batch": first - started,
            "MiB of its own a process": statistics.median(memory) if memory else float("nan"),
        }

    def _rates(self, ways: dict[str, Callable[[], Any]], count: int) -> dict[str, list[float]]:
        """Rates of each way, all in turn, round by round."""
        rates: dict[str, list[float]] = {name: [] for name in ways}
        for _ in range(self.rounds):
            for name, way in ways.items():
                started = time.process_time()
                way()
                rates[name].append(count / (time.process_time() - started))
        return rates


def _each(decode: Callable[[bytes], Any], contents: list[bytes]) -> Callable[[], Any]:
    return lambda: [decode(content) for content in contents]


def _turns(count: int) -> Iterator[range]:
    """Numbers of the images to time, round after round."""
    start = 0
    while True:
        yield range(start, start + _CHUNK)
        start = (start + _CHUNK) % (count - _CHUNK + 1)


def _nbytes(parts: Any) -> int:
    return sum(part.numel() * part.element_size() for part in parts if isinstance(part, torch.Tensor))


def own_memory(process: int) -> float:
    """MiB that a process has written and shares with no other; nan where the system does not tell."""
    try:
        lines = Path(f"/proc/{process}/smaps_rollup").read_text().splitlines()
    except OSError:
        return float("nan")
    return sum(int(line.split()[1]) for line in lines if line.startswith("Private_Dirty")) / 1024
