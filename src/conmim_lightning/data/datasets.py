"""From a source's files to the samples that batches are made of."""

from pathlib import Path
from typing import Protocol

import numpy as np
import torch
from PIL import Image
from torch import Generator, Tensor
from torch.utils.data import Dataset

from conmim_lightning.batches import LabelledBatch, PretrainBatch, SegmentationBatch
from conmim_lightning.data.ade20k import PairSource
from conmim_lightning.data.crop import RandomResizedCrop, centre_square
from conmim_lightning.data.decode import BrokenImageError, check_channels, decode, to_tensor
from conmim_lightning.data.folder import FolderSource
from conmim_lightning.data.sampler import SampleKey
from conmim_lightning.perturbation.draw import PerturbationDraw
from conmim_lightning.randomness import generator

_SUBSTITUTES = 100


class Source(Protocol):
    """A collection of image files, numbered from 0."""

    def __len__(self) -> int:
        """Number of images."""
        ...

    def path(self, index: int) -> Path:
        """File of an image."""
        ...


class Masking(Protocol):
    """A masking rule."""

    def __call__(self, generator: Generator) -> Tensor:
        """Draw (h, w) bool, True = hidden."""
        ...


class PretrainDataset(Dataset[PretrainBatch]):
    """Mask, perturbation rows and crop of a sample, drawn in this order from generator(seed, epoch, index).

    A broken image is replaced by another one that the same generator chooses, cropped, perturbed and masked with what
    the broken one would have had; ``read_index`` then differs from ``index``.

    Args:
        source: image files.
        crop: shared geometry.
        perturbation: draws the rows of both views.
        masking: draws the mask.
        channels: of the decoded images, 1, 3 or 4.
        seed: of the run.
        keep_decoded: keep every decoded image in memory, for collections that fit there (once a loader process).
    """

    def __init__(
        self,
        source: Source,
        *,
        crop: RandomResizedCrop,
        perturbation: PerturbationDraw,
        masking: Masking,
        channels: int,
        seed: int,
        keep_decoded: bool = False,
    ) -> None:
        check_channels(channels)
        self.source = source
        self.crop = crop
        self.perturbation = perturbation
        self.masking = masking
        self.channels = channels
        self.seed = seed
        self._kept: dict[int, Image.Image] | None = {} if keep_decoded else None

    def __len__(self) -> int:
        """Number of images in the source."""
        return len(self.source)

    def __getitem__(self, key: SampleKey) -> PretrainBatch:
        """One sample; the fields of ``PretrainBatch`` without the batch dimension."""
        random = generator(self.seed, key.epoch, key.index)
        mask, rows = self.masking(random), self.perturbation(random)
        read_index, image = self._read(key)
        crop = to_tensor(self.crop(image, random))
        return PretrainBatch(crop, rows, mask, torch.tensor(key.index), torch.tensor(read_index))

    def _decoded(self, index: int) -> Image.Image:
        if self._kept is None:
            return decode(self.source.path(index), self.channels)
        if index not in self._kept:
            self._kept[index] = decode(self.source.path(index), self.channels)
        return self._kept[index]

    def _read(self, key: SampleKey) -> tuple[int, Image.Image]:
        """The image asked for, or the first readable substitute."""
        index, reasons = key.index, []
        substitutes = generator(self.seed, key.epoch, -2 - key.index)
        for _ in range(_SUBSTITUTES):
            try:
                return index, self._decoded(index)
            except BrokenImageError as error:
                reasons.append(f"{self.source.path(index)}: {error}")
                index = int(torch.randint(len(self.source), (1,), generator=substitutes))
        raise ValueError(f"{_SUBSTITUTES} images in a row are broken; the first is {reasons[0]}")


class LabelledDataset(Dataset[LabelledBatch | None]):
    """Central squares with their class, without randomness, for evaluation.

    Args:
        source: labelled by folder.
        size: side in pixels.
        channels: 1, 3 or 4.
    """

    def __init__(self, source: FolderSource, *, size: int, channels: int) -> None:
        self.source = source
        self.size = size
        self.channels = channels

    def __len__(self) -> int:
        """Number of images."""
        return len(self.source)

    def __getitem__(self, index: int) -> LabelledBatch | None:
        """One sample; None where the image cannot be read, for whoever evaluates to count."""
        image = _evaluation_image(self.source.path(index), self.size, self.channels)
        if image is None:
            return None
        return LabelledBatch(image, torch.tensor(self.source.label(index)), torch.tensor(index))


class SegmentationDataset(Dataset[SegmentationBatch | None]):
    """Central squares with their class map, without randomness, for evaluation.

    Args:
        source: pairs of image and class map.
        size: side in pixels.
        channels: 1, 3 or 4.
    """

    def __init__(self, source: PairSource, *, size: int, channels: int) -> None:
        self.source = source
        self.size = size
        self.channels = channels

    def __len__(self) -> int:
        """Number of pairs."""
        return len(self.source)

    def __getitem__(self, index: int) -> SegmentationBatch | None:
        """One sample; None where the image or its class map cannot be read, for whoever evaluates to count."""
        image_path, map_path = self.source.paths(index)
        image = _evaluation_image(image_path, self.size, self.channels)
        try:
            with Image.open(map_path) as opened:
                class_map = centre_square(opened, self.size, Image.Resampling.NEAREST)
        except OSError:
            return None
        if image is None:
            return None
        return SegmentationBatch(image, torch.from_numpy(np.array(class_map, np.uint8)), torch.tensor(index))


def _evaluation_image(path: Path, size: int, channels: int) -> Tensor | None:
    try:
        return to_tensor(centre_square(decode(path, channels), size, Image.Resampling.BICUBIC))
    except BrokenImageError:
        return None
