"""Labelled images for downstream tasks."""

from typing import Any

import torch
from torch import Tensor
from torch.utils.data import Dataset

from conmim_lightning.batches import LabelledBatch
from conmim_lightning.data.decode import Decoder
from conmim_lightning.data.files import BrokenImageError
from conmim_lightning.data.lists import to_line
from conmim_lightning.data.pixels import DecodedPicture
from conmim_lightning.data.sampler import SampleKey
from conmim_lightning.data.sources import Source
from conmim_lightning.randomness import generator

_SUBSTITUTES = 100


class LabelledImages(Dataset[LabelledBatch]):
    """Images with their class; what is random about a sample is drawn from generator(seed, epoch, index).

    A broken training image is replaced by another one, with that one's class; a broken image to evaluate is black, with
    the class -1. Both are told in ``broken``.

    Args:
        source: images, labelled or not.
        decoder: of their bytes.
        transform: takes a picture and a generator, gives (C, size, size) uint8.
        size: side of what the transform gives.
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
        transform: Any,
        size: int,
        seed: int = 0,
        train: bool = False,
        epoch: int = 0,
        keep_decoded: bool = False,
    ) -> None:
        self.source = source
        self.decoder = decoder
        self.transform = transform
        self.size = size
        self.seed = seed
        self.train = train
        self.epoch = epoch
        self._kept: dict[int, DecodedPicture] | None = {} if keep_decoded else None

    def __len__(self) -> int:
        """Number of images."""
        return len(self.source)

    def __getitem__(self, key: SampleKey | int) -> LabelledBatch:
        """One sample; the fields of ``LabelledBatch`` without the batch dimension."""
        key = SampleKey(self.epoch, key) if isinstance(key, int) else key
        index, faults, substitutes = key.index, [], None
        for _ in range(_SUBSTITUTES if self.train else 1):
            try:
                image = self.transform(self._picture(index), generator(self.seed, key.epoch, key.index))
                return self._sample(image, index, key.index, faults)
            except BrokenImageError as error:
                faults.append(to_line(self.source.name(index), str(error)))
                substitutes = substitutes or generator(self.seed, key.epoch, -2 - key.index)
                index = self.source.substitute(index, int(torch.randint(1 << 31, (1,), generator=substitutes)))
        if self.train:
            raise ValueError(f"{_SUBSTITUTES} images in a row are broken; the first is {faults[0]}")
        black = torch.zeros(self.decoder.channels, self.size, self.size, dtype=torch.uint8)
        broken: Any = faults[0]
        return LabelledBatch(black, torch.tensor(-1), torch.tensor(key.index), broken)

    def _sample(self, image: Tensor, shown: int, asked: int, faults: list[str]) -> LabelledBatch:
        label = self.source.label(shown) if self.source.classes else -1
        broken: Any = "\n".join(faults)
        return LabelledBatch(image, torch.tensor(label), torch.tensor(asked), broken)

    def _picture(self, index: int) -> Any:
        if self._kept is not None and index in self._kept:
            return self._kept[index]
        content = self.source.read(SampleKey(0, index), self.decoder.max_bytes)
        if self._kept is None:
            return self.decoder.open(content)
        self._kept[index] = DecodedPicture(self.decoder.decode(content))
        return self._kept[index]
