"""Base class of the datasets: images with their annotations, and substitutes for broken ones."""

from collections.abc import Callable
from typing import Any, Generic, TypeVar, cast

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Generator
from torch.utils.data import Dataset, default_collate

from conmim_lightning.batches import DetectionBatch, LabelledBatch, PretrainBatch, SegmentationBatch
from conmim_lightning.data.images.decode import Decoder
from conmim_lightning.data.images.files import BrokenImageError
from conmim_lightning.data.images.pixels import AnyImage, DecodedImage
from conmim_lightning.data.samplers.epoch import SampleKey
from conmim_lightning.data.sources.base import Source
from conmim_lightning.data.sources.name_list import to_line
from conmim_lightning.rng import generator

_SUBSTITUTES = 100

Sample = TypeVar("Sample", PretrainBatch, LabelledBatch, SegmentationBatch, DetectionBatch, Any)


class ImageDataset(Dataset[Sample], Generic[Sample]):
    """Samples of a source's images; everything random about a sample follows from (seed, epoch, index).

    A broken training image is replaced by another image with its annotation. A broken evaluation image is replaced by
    an empty sample. Both are reported in the field ``broken`` of the sample, a named tuple without a batch dimension.
    A subclass implements ``sample`` and, for evaluation, ``empty``.

    Args:
        source: source of the images.
        decoder: decoder of the image bytes.
        seed: seed of the run.
        train: whether broken images are replaced by others.
        epoch: epoch of samples that are requested by an index without an epoch.
        cache_decoded: keep every decoded image in memory, per loader process; for small collections.

    Raises:
        ValueError: cache_decoded is set and the source is a stream.
    """

    def __init__(
        self,
        source: Source,
        *,
        decoder: Decoder,
        seed: int = 0,
        train: bool = False,
        epoch: int = 0,
        cache_decoded: bool = False,
    ) -> None:
        if cache_decoded and not source.fixed:
            raise ValueError(f"{source.root!r} is a stream, which cannot be cached; set data.cache_decoded=false")
        self.source = source
        self.decoder = decoder
        self.seed = seed
        self.train = train
        self.epoch = epoch
        self._cache: dict[int, DecodedImage] | None = {} if cache_decoded else None

    def __len__(self) -> int:
        """Number of images."""
        return len(self.source)

    def __getitem__(self, key: SampleKey | int) -> Sample:
        """Load one sample.

        Raises:
            ValueError: too many consecutive training images are broken.
        """
        key = SampleKey(self.epoch, key) if isinstance(key, int) else key
        index, broken, substitutes = key.index, [], None
        for _ in range(_SUBSTITUTES if self.train else 1):
            try:
                image = self._open(SampleKey(key.epoch, index))
                sample = self.sample(image, index, key.index, generator(self.seed, key.epoch, key.index))
                broken += [to_line(name, reason) for name, reason in self.source.pop_faults()]
                return _with_broken(sample, "\n".join(broken))
            except BrokenImageError as error:
                broken.append(to_line(self.source.name(index), str(error)))
                substitutes = substitutes or generator(self.seed, key.epoch, -2 - key.index)
                index = self.source.substitute(index, int(torch.randint(1 << 31, (1,), generator=substitutes)))
        if self.train:
            raise ValueError(f"{_SUBSTITUTES} consecutive images are broken; the first is {broken[0]}")
        return _with_broken(self.empty(key.index), broken[0])

    def sample(self, image: AnyImage, index: int, requested: int, generator: Generator) -> Sample:
        """Create a sample.

        Args:
            image: image of the sample.
            index: index of that image.
            requested: index that the sampler asked for; it differs if that image is broken.
            generator: random generator of the sample.

        Raises:
            BrokenImageError: the image cannot be read.
        """
        raise NotImplementedError

    def empty(self, requested: int) -> Sample:
        """Create the sample for an evaluation image that cannot be read."""
        raise NotImplementedError

    def check(self, index: int, height: int, width: int) -> NDArray[np.int64]:
        """Return the (K,) number of objects or pixels per class of an image of this size, if it has such annotations.

        Raises:
            ValueError: the annotation is invalid.
            BrokenImageError: it cannot be read.
        """
        raise NotImplementedError

    def collate(self, samples: list[Sample]) -> Any:
        """Combine samples to a batch."""
        return default_collate(samples)

    def _open(self, key: SampleKey) -> AnyImage:
        if self._cache is None:
            return self.decoder.open(self.source.read(key, self.decoder.max_bytes))
        if key.index not in self._cache:
            content = self.source.read(key, self.decoder.max_bytes)
            self._cache[key.index] = DecodedImage(self.decoder.decode(content))
        return self._cache[key.index]


def _with_broken(sample: Sample, broken: str) -> Sample:
    replace = cast(Callable[..., Sample], sample._replace)
    return replace(broken=broken)
