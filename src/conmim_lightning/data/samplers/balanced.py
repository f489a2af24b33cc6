"""Sampling all classes equally often."""

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from conmim_lightning.data.samplers.epoch import EpochSampler, SampleKey
from conmim_lightning.rng import stream_seed

_STREAM = -3  # number of the random stream; samples use streams from 0


class BalancedSampler(EpochSampler):
    """Sample classes uniformly, then images within the class uniformly; images repeat within an epoch.

    An epoch has N samples, in one order for all devices. Device r of R takes positions r, r + R, ... of that order.

    Args:
        labels: (N,) class of each image in the collection.
        seed: seed of the run.
        rank: rank r of this device, 0 to R - 1.
        num_devices: number of devices R.
    """

    def __init__(self, labels: NDArray[np.int64], *, seed: int, rank: int = 0, num_devices: int = 1) -> None:
        super().__init__(len(labels), seed=seed, rank=rank, num_devices=num_devices)
        self.members = [np.flatnonzero(labels == label) for label in np.unique(labels)]

    def __iter__(self) -> Iterator[SampleKey]:
        """Yield the keys of this device's samples in the current epoch."""
        rng = np.random.default_rng(stream_seed(self.seed, self.epoch, _STREAM))
        classes = rng.integers(len(self.members), size=self.num_samples)
        fractions = rng.random(self.num_samples)
        for step in range(self.start, len(self)):
            position = step * self.num_devices + self.rank
            members = self.members[classes[position]]
            yield SampleKey(self.epoch, int(members[int(fractions[position] * len(members))]))
