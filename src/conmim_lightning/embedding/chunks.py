"""Collections in chunks: the units that devices and loader processes share, and that are written to disk."""

import hashlib
from collections.abc import Iterator, Sequence
from typing import NamedTuple, Protocol

from conmim_lightning.data.images.files import BrokenImageError
from conmim_lightning.data.samplers.epoch import SampleKey
from conmim_lightning.data.sources.base import Source
from conmim_lightning.data.sources.shards.stream import StreamSource


class EncodedSample(NamedTuple):
    """An image before it is decoded.

    Attributes:
        name: name of the image; for a fault of a shard, name of the shard.
        content: content of the image file; None if it cannot be read.
        label: class from 0; -1 without labels.
        reason: why there is no content.
    """

    name: str
    content: bytes | None
    label: int = -1
    reason: str = ""


class Chunks(Protocol):
    """Interface of a collection in chunks."""

    classes: Sequence[str]

    def __len__(self) -> int:
        """Number of chunks."""
        ...

    def count(self, chunk: int) -> int | None:
        """Return the number of images of a chunk; None if it is not known before it is read."""
        ...

    def samples(self, chunk: int, max_bytes: int | None) -> Iterator[EncodedSample]:
        """Yield the images of a chunk in order."""
        ...

    def fingerprint(self) -> str:
        """Return a string that differs for other images or another order."""
        ...


class IndexedChunks:
    """Images with fixed indices, ``size`` at a time.

    Args:
        source: source of the images.
        size: images per chunk, >= 1.
    """

    def __init__(self, source: Source, size: int) -> None:
        self.source = source
        self.size = size
        self.classes = source.classes

    def __len__(self) -> int:
        """Number of chunks."""
        return -(-len(self.source) // self.size)

    def count(self, chunk: int) -> int | None:
        """Return the number of images of a chunk."""
        return len(self._indices(chunk))

    def samples(self, chunk: int, max_bytes: int | None) -> Iterator[EncodedSample]:
        """Yield the images of a chunk in order."""
        for index in self._indices(chunk):
            label = self.source.label(index) if self.classes else -1
            try:
                yield EncodedSample(self.source.name(index), self.source.read(SampleKey(0, index), max_bytes), label)
            except BrokenImageError as error:
                yield EncodedSample(self.source.name(index), None, label, str(error))

    def fingerprint(self) -> str:
        """Return a string that differs for other images or another order."""
        return f"{self.source.fingerprint()}/{self.size}"

    def _indices(self, chunk: int) -> range:
        return range(chunk * self.size, min((chunk + 1) * self.size, len(self.source)))


class StreamChunks:
    """The shards of a stream, one per chunk, each read once and in its order.

    Args:
        source: the stream.
    """

    def __init__(self, source: StreamSource) -> None:
        self.source = source
        self.classes: Sequence[str] = ()

    def __len__(self) -> int:
        """Number of shards."""
        return len(self.source.urls)

    def count(self, chunk: int) -> int | None:
        """Return None: the number of images is not known before a shard is read."""
        return None

    def samples(self, chunk: int, max_bytes: int | None) -> Iterator[EncodedSample]:
        """Yield the images of a shard, then its faults."""
        reader = self.source.reader
        for name, content in reader.images(self.source.urls[chunk]):
            if name in self.source.excluded:
                continue
            too_large = max_bytes is not None and len(content) > max_bytes
            reason = f"TooLarge: {len(content)} bytes, more than {max_bytes}" if too_large else ""
            yield EncodedSample(name, None if too_large else content, reason=reason)
        yield from (EncodedSample(name, None, reason=reason) for name, reason in reader.pop_faults())

    def fingerprint(self) -> str:
        """Return a string that differs for other shards."""
        return hashlib.blake2b("\n".join(self.source.urls).encode(), digest_size=16).hexdigest()


def in_chunks(source: Source, size: int) -> Chunks:
    """Return a collection in chunks of ``size`` images; a stream in its shards."""
    return StreamChunks(source) if isinstance(source, StreamSource) else IndexedChunks(source, size)
