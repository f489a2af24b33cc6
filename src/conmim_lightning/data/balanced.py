"""Classes of unequal size, drawn alike."""

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from conmim_lightning.data.sampler import EpochSampler, SampleKey
from conmim_lightning.randomness import stream_seed

_STREAM = -3  # in place of a sample index


class BalancedSampler(EpochSampler):
    """Every class is equally likely at each place, and every image within a class; images come again within an epoch.

    An epoch has as many samples as the collection. Device r of R takes places r, r + R, ... of one order.

    Args:
        labels: (N,) classes.
        seed: of the run.
        rank: number of this device, 0 to num_devices - 1.
        num_devices: R.
    """

    def __init__(self, labels: NDArray[np.int64], *, seed: int, rank: int = 0, num_devices: int = 1) -> None:
        super().__init__(len(labels), seed=seed, rank=rank, num_devices=num_devices)
        self.members = [np.flatnonzero(labels == label) for label in np.unique(labels)]

    def __iter__(self) -> Iterator[SampleKey]:
        """Keys of this device's samples in the current epoch."""
        random = np.random.default_rng(stream_seed(self.seed, self.epoch, _STREAM))
        classes = random.integers(len(self.members), size=self.num_samples)
        places = random.random(self.num_samples)
        for turn in range(self.start, len(self)):
            place = turn * self.num_devices + self.rank
            members = self.members[classes[place]]
            yield SampleKey(self.epoch, int(members[int(places[place] * len(members))]))
