"""Unlabelled images for pre-training."""

from typing import Protocol, cast

import torch
from torch import Generator, Tensor
from torch.utils.data import default_collate

from conmim_lightning.batches import PretrainBatch
from conmim_lightning.data.datasets.base import ImageDataset
from conmim_lightning.data.images.decode import Decoder
from conmim_lightning.data.images.pixels import AnyImage
from conmim_lightning.data.sources.base import Source
from conmim_lightning.data.transforms.crop import RandomResizedCrop
from conmim_lightning.perturbation.draw import PerturbationDraw


class Masking(Protocol):
    """Interface of a masking rule."""

    def __call__(self, generator: Generator) -> Tensor:
        """Sample a mask, (h, w) bool, True = hidden."""
        ...


class PretrainDataset(ImageDataset[PretrainBatch]):
    """Images for pre-training, each with a mask, perturbation parameters and a crop, sampled in this order.

    The substitute of a broken image is masked, perturbed and cropped with the random numbers of the broken image.

    Args:
        source: source of the images.
        decoder: decoder of the image bytes.
        crop: random crop, shared by both views.
        perturbation: sampler of the perturbation parameters, one row per view.
        masking: sampler of the mask.
        seed: seed of the run.
        cache_decoded: see ``ImageDataset``.
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
        cache_decoded: bool = False,
    ) -> None:
        super().__init__(source, decoder=decoder, seed=seed, train=True, cache_decoded=cache_decoded)
        self.crop = crop
        self.perturbation = perturbation
        self.masking = masking

    def sample(self, image: AnyImage, index: int, requested: int, generator: Generator) -> PretrainBatch:
        """Sample a mask, perturbation parameters and a crop."""
        mask, rows = self.masking(generator), self.perturbation(generator)
        return PretrainBatch(self.crop(image, generator), rows, mask, torch.tensor(requested), [])

    def collate(self, samples: list[PretrainBatch]) -> PretrainBatch:
        """Combine samples to a batch with ``max_hidden``."""
        return cast(PretrainBatch, default_collate(samples)).with_max_hidden()
