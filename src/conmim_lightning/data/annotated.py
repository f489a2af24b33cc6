"""Images with whatever is known of them, read one by one, with substitutes for broken ones."""

from typing import Any, Generic, TypeVar

import torch
from torch import Generator
from torch.utils.data import Dataset, default_collate

from conmim_lightning.data.decode import Decoder
from conmim_lightning.data.files import BrokenImageError
from conmim_lightning.data.lists import to_line
from conmim_lightning.data.pixels import DecodedPicture
from conmim_lightning.data.sampler import SampleKey
from conmim_lightning.data.sources import Source
from conmim_lightning.randomness import generator

_SUBSTITUTES = 100

Sample = TypeVar("Sample")


class AnnotatedImages(Dataset[Sample], Generic[Sample]):
    """What is random about a sample is drawn from generator(seed, epoch, index).

    A broken training image is replaced by another one, with what is known of that one; a broken image to evaluate has
    an empty sample in its place. Both are told in ``broken``. Subclasses say what a sample is.

    Args:
        source: images.
        decoder: of their bytes.
        seed: of the run.
        train: whether broken images are replaced.
        epoch: that the randomness of samples asked for by number alone is drawn for.
        keep_decoded: keep every decoded image in memory, for collections that fit there (once a loader process).
    """

    def __init__(
        self,
        source: Source,
        *,
        decoder: Decoder,
        seed: int = 0,
        train: bool = False,
        epoch: int = 0,
        keep_decoded: bool = False,
    ) -> None:
        self.source = source
        self.decoder = decoder
        self.seed = seed
        self.train = train
        self.epoch = epoch
        self._kept: dict[int, DecodedPicture] | None = {} if keep_decoded else None

    def __len__(self) -> int:
        """Number of images."""
        return len(self.source)

    def __getitem__(self, key: SampleKey | int) -> Sample:
        """One sample; the fields of its batch without the batch dimension."""
        key = SampleKey(self.epoch, key) if isinstance(key, int) else key
        index, faults, substitutes = key.index, [], None
        for _ in range(_SUBSTITUTES if self.train else 1):
            try:
                drawn = generator(self.seed, key.epoch, key.index)
                return self.sample(self._picture(index), index, key.index, drawn, "\n".join(faults))
            except BrokenImageError as error:
                faults.append(to_line(self.source.name(index), str(error)))
                substitutes = substitutes or generator(self.seed, key.epoch, -2 - key.index)
                index = self.source.substitute(index, int(torch.randint(1 << 31, (1,), generator=substitutes)))
        if self.train:
            raise ValueError(f"{_SUBSTITUTES} images in a row are broken; the first is {faults[0]}")
        return self.empty(key.index, faults[0])

    def sample(self, picture: Any, shown: int, asked: int, drawn: Generator, faults: str) -> Sample:
        """A sample.

        Args:
            picture: the image that is shown.
            shown: its number.
            asked: number of the sample that the sampler asked for.
            drawn: to draw from.
            faults: what was broken before, if anything.

        Raises:
            BrokenImageError: the image cannot be read.
        """
        raise NotImplementedError

    def empty(self, asked: int, fault: str) -> Sample:
        """The sample in place of an image to evaluate that cannot be read."""
        raise NotImplementedError

    def check(self, index: int, height: int, width: int) -> None:
        """Raise ValueError or BrokenImageError for what is wrong with the annotation of an image of this size."""

    def collate(self, samples: list[Sample]) -> Any:
        """A batch of samples."""
        return default_collate(samples)

    def _picture(self, index: int) -> Any:
        if self._kept is not None and index in self._kept:
            return self._kept[index]
        content = self.source.read(SampleKey(0, index), self.decoder.max_bytes)
        if self._kept is None:
            return self.decoder.open(content)
        self._kept[index] = DecodedPicture(self.decoder.decode(content))
        return self._kept[index]
