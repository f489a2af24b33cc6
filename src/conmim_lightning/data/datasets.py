"""From a source's files to the samples that batches are made of."""

from typing import Any, Protocol, cast

import numpy as np
import torch
from PIL import Image
from torch import Generator, Tensor
from torch.utils.data import Dataset, default_collate

from conmim_lightning.batches import ClassMapBatch, LabelledBatch, PretrainBatch
from conmim_lightning.data.ade20k import PairSource
from conmim_lightning.data.crop import RandomResizedCrop, Sized, centre_box
from conmim_lightning.data.decode import Decoder
from conmim_lightning.data.files import BrokenImageError
from conmim_lightning.data.lists import to_line
from conmim_lightning.data.pixels import DecodedPicture
from conmim_lightning.data.sampler import SampleKey
from conmim_lightning.data.sources import Source
from conmim_lightning.perturbation.draw import PerturbationDraw
from conmim_lightning.randomness import generator

_SUBSTITUTES = 100


class Masking(Protocol):
    """A masking rule."""

    def __call__(self, generator: Generator) -> Tensor:
        """Draw (h, w) bool, True = hidden."""
        ...


class PretrainDataset(Dataset[PretrainBatch]):
    """Mask, perturbation rows and crop of a sample, drawn in this order from generator(seed, epoch, index).

    A broken image is replaced by another one that follows from (seed, epoch, index) too, cropped, perturbed and masked
    with what the broken one would have had; ``broken`` then says what was broken and why.

    Args:
        source: images.
        decoder: of their bytes.
        crop: shared geometry.
        perturbation: draws the rows of both views.
        masking: draws the mask.
        seed: of the run.
        keep_decoded: keep every decoded image in memory, for collections that fit there (once a loader process).

    Raises:
        ValueError: images are to be kept of a source whose numbers mean other images in other epochs.
    """

    def __init__(
        self,
        source: Source,
        *,
        decoder: Decoder,
        crop: RandomResizedCrop,
        perturbation: PerturbationDraw,
        masking: Masking,
        seed: int,
        keep_decoded: bool = False,
    ) -> None:
        if keep_decoded and not source.fixed:
            raise ValueError(
                f"keep_decoded=true needs images that stay; {source.root!r} is a stream; set data.keep_decoded=false"
            )
        self.source = source
        self.decoder = decoder
        self.crop = crop
        self.perturbation = perturbation
        self.masking = masking
        self.seed = seed
        self._kept: dict[int, DecodedPicture] | None = {} if keep_decoded else None

    def __len__(self) -> int:
        """Number of images in the source."""
        return len(self.source)

    def __getitem__(self, key: SampleKey) -> PretrainBatch:
        """One sample; the fields of ``PretrainBatch`` without the batch dimension."""
        index, faults = key.index, []
        substitutes = None
        for _ in range(_SUBSTITUTES):
            random = generator(self.seed, key.epoch, key.index)
            mask, rows = self.masking(random), self.perturbation(random)
            try:
                crop = self.crop(self._picture(SampleKey(key.epoch, index)), random)
                faults += [to_line(name, reason) for name, reason in self.source.take_faults()]
                return PretrainBatch(crop, rows, mask, torch.tensor(key.index), cast(Any, "\n".join(faults)))
            except BrokenImageError as error:
                faults.append(to_line(self.source.name(index), str(error)))
                substitutes = substitutes or generator(self.seed, key.epoch, -2 - key.index)
                index = self.source.substitute(index, int(torch.randint(1 << 31, (1,), generator=substitutes)))
        raise ValueError(f"{_SUBSTITUTES} images in a row are broken; the first is {faults[0]}")

    @staticmethod
    def collate(samples: list[PretrainBatch]) -> PretrainBatch:
        """A batch of samples."""
        batch: PretrainBatch = default_collate(samples)
        return batch.counted()

    def _picture(self, key: SampleKey) -> Sized:
        if self._kept is None:
            return self.decoder.open(self.source.read(key, self.decoder.max_bytes))
        if key.index not in self._kept:
            content = self.source.read(key, self.decoder.max_bytes)
            self._kept[key.index] = DecodedPicture(self.decoder.decode(content))
        return self._kept[key.index]


class LabelledDataset(Dataset[LabelledBatch | None]):
    """Central squares with their class, without randomness, for evaluation.

    Args:
        source: with labels, or without: then they are -1.
        decoder: of the images' bytes.
        size: side in pixels.
    """

    def __init__(self, source: Source, *, decoder: Decoder, size: int) -> None:
        self.source = source
        self.decoder = decoder
        self.size = size

    def __len__(self) -> int:
        """Number of images."""
        return len(self.source)

    def __getitem__(self, index: int) -> LabelledBatch | None:
        """One sample; None where the image cannot be read, for whoever evaluates to count."""
        image = central_square(self.source, index, self.size, self.decoder)
        if image is None:
            return None
        label = self.source.label(index) if self.source.classes else -1
        return LabelledBatch(image, torch.tensor(label), torch.tensor(index))


class SegmentationDataset(Dataset[ClassMapBatch | None]):
    """Central squares with their class map, without randomness, for evaluation.

    Args:
        source: pairs of image and class map.
        decoder: of the images' bytes.
        size: side in pixels.
    """

    def __init__(self, source: PairSource, *, decoder: Decoder, size: int) -> None:
        self.source = source
        self.decoder = decoder
        self.size = size

    def __len__(self) -> int:
        """Number of pairs."""
        return len(self.source)

    def __getitem__(self, index: int) -> ClassMapBatch | None:
        """One sample; None where the image or its class map cannot be read, for whoever evaluates to count."""
        image = central_square(self.source.images, index, self.size, self.decoder)
        class_map = self._class_map(index)
        if image is None or class_map is None:
            return None
        return ClassMapBatch(image, class_map, torch.tensor(index))

    def _class_map(self, index: int) -> Tensor | None:
        """(size, size) uint8; None where it cannot be read.

        Raises:
            ValueError: it is not one number of 8 bits a pixel.
        """
        path = self.source.map_path(index)
        try:
            with Image.open(path) as opened:
                mode, box = opened.mode, centre_box(opened.width, opened.height)
                class_map = opened.resize((self.size, self.size), Image.Resampling.NEAREST, box=box)
        except (OSError, SyntaxError, ValueError):  # what Pillow raises for damaged PNGs
            return None
        if mode not in ("L", "P", "1"):
            raise ValueError(
                f"class map {str(path)!r} has the pixel mode {mode}; needed is one number of 8 bits a pixel"
            )
        return torch.from_numpy(np.array(class_map, np.uint8))


def central_square(source: Source, index: int, size: int, decoder: Decoder) -> Tensor | None:
    """An image's largest central square, (C, size, size) uint8; None where the image cannot be read."""
    try:
        picture = decoder.open(source.read(SampleKey(0, index), decoder.max_bytes))
        return picture.region(centre_box(picture.width, picture.height), size)
    except BrokenImageError:
        return None
