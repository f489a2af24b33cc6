"""The order of samples: the same for any number of devices, and resumable at any batch."""

from collections.abc import Iterator
from typing import NamedTuple

import torch
from torch.utils.data import Sampler

from conmim_lightning.randomness import generator

_ORDER_STREAM = -1  # in place of a sample index: the stream that shuffles an epoch


class SampleKey(NamedTuple):
    """What a dataset is asked for: everything random about the sample follows from it and the seed."""

    epoch: int
    index: int


class EpochSampler(Sampler[SampleKey]):
    """A new order each epoch; device r of R takes places r, r + R, r + 2R, ... of it.

    So a batch over all devices holds the same samples for any R at the same global batch. Of every epoch the last
    ``num_samples % num_devices`` samples of the order are dropped (never repeated); the loader likewise drops an
    incomplete batch.

    Args:
        num_samples: size of the source.
        seed: of the run.
        rank: number of this device, 0 to num_devices - 1.
        num_devices: R.
    """

    def __init__(self, num_samples: int, *, seed: int, rank: int = 0, num_devices: int = 1) -> None:
        self.num_samples = num_samples
        self.seed = seed
        self.rank = rank
        self.num_devices = num_devices
        self.epoch = 0
        self._resume_epoch, self._resume_from = 0, 0

    def set_epoch(self, epoch: int) -> None:
        """Choose the epoch of the next iteration; Lightning calls this."""
        self.epoch = epoch

    def resume(self, epoch: int, consumed: int) -> None:
        """Go on within an epoch.

        Args:
            epoch: to go on with.
            consumed: samples of that epoch that this device has had.
        """
        self.epoch = epoch
        self._resume_epoch, self._resume_from = epoch, consumed

    def __len__(self) -> int:
        """Samples of this device in a whole epoch."""
        return self.num_samples // self.num_devices

    def __iter__(self) -> Iterator[SampleKey]:
        """Keys of this device's samples in the current epoch."""
        start = self._resume_from if self.epoch == self._resume_epoch else 0
        order = torch.randperm(self.num_samples, generator=generator(self.seed, self.epoch, _ORDER_STREAM))
        mine = order[self.rank :: self.num_devices][start : len(self)]
        epoch = self.epoch
        return (SampleKey(epoch, index) for index in mine.tolist())
