"""The order of samples: the same for any number of devices, and resumable at any batch."""

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch.utils.data import Sampler

from conmim_lightning.randomness import stream_seed

_ORDER_STREAM = -1  # in place of a sample index: the stream that shuffles an epoch
_LISTED = 1 << 20  # up to here an order is a list (8 MiB), above it a function
_ROUNDS = 6
_CHUNK = 1 << 14


class SampleKey(NamedTuple):
    """What a dataset is asked for: everything random about the sample follows from it and the seed."""

    epoch: int
    index: int


class Resumable(Sampler[SampleKey]):
    """A sampler of one device that goes on where a run was stopped."""

    def __init__(self) -> None:
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

    @property
    def start(self) -> int:
        """Samples of the current epoch that this device has had."""
        return self._resume_from if self.epoch == self._resume_epoch else 0

    def __len__(self) -> int:
        """Samples of this device in a whole epoch."""
        raise NotImplementedError

    def __iter__(self) -> Iterator[SampleKey]:
        """Keys of this device's samples in the current epoch."""
        raise NotImplementedError


class Shuffle:
    """A random order of 0 ... size - 1 as a function of the place, without a list of them all.

    Up to 2^20 it is a list after all. Above, it is a Feistel network over the smallest even number of bits that covers
    ``size``; numbers beyond the end are sent through it again until they fall inside (cycle walking), so it is a
    bijection. Memory does not grow with ``size``.
    Reference: Black and Rogaway, "Ciphers with arbitrary finite domains", 2002.

    Args:
        size: how many, >= 1.
        seed: of the order, a whole number of 64 bits.
    """

    def __init__(self, size: int, seed: int) -> None:
        self.size = size
        self._list = None
        if size <= _LISTED:
            self._list = torch.randperm(size, generator=torch.Generator().manual_seed(seed >> 1)).numpy()
        self._half = max(1, ((size - 1).bit_length() + 1) // 2)
        self._keys = [np.uint64(stream_seed(seed, number)) for number in range(_ROUNDS)]

    def __call__(self, places: NDArray[np.int64]) -> NDArray[np.int64]:
        """Numbers at these places of the order.

        Args:
            places: (n,) int64, from 0 to size - 1.
        """
        if self._list is not None:
            return self._list[places]
        found = self._encipher(places.astype(np.uint64))
        while (outside := found >= self.size).any():
            found[outside] = self._encipher(found[outside])
        return found.astype(np.int64)

    def _encipher(self, words: NDArray[np.uint64]) -> NDArray[np.uint64]:
        half, mask = np.uint64(self._half), np.uint64((1 << self._half) - 1)
        left, right = words >> half, words & mask
        for key in self._keys:
            left, right = right, left ^ (_mix(right ^ key) & mask)
        return (left << half) | right


def _mix(words: NDArray[np.uint64]) -> NDArray[np.uint64]:
    """Finaliser of SplitMix64, as in ``randomness``, on many words."""
    words = words + np.uint64(0x9E3779B97F4A7C15)
    words = (words ^ (words >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    words = (words ^ (words >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return words ^ (words >> np.uint64(31))


class EpochSampler(Resumable):
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
        super().__init__()
        self.num_samples = num_samples
        self.seed = seed
        self.rank = rank
        self.num_devices = num_devices

    def __len__(self) -> int:
        """Samples of this device in a whole epoch."""
        return self.num_samples // self.num_devices

    def __iter__(self) -> Iterator[SampleKey]:
        """Keys of this device's samples in the current epoch."""
        order = Shuffle(self.num_samples, stream_seed(self.seed, self.epoch, _ORDER_STREAM))
        return self._keys(self.epoch, order, self.start)

    def _keys(self, epoch: int, order: Shuffle, start: int) -> Iterator[SampleKey]:
        for first in range(start, len(self), _CHUNK):
            turns = np.arange(first, min(first + _CHUNK, len(self)), dtype=np.int64)
            for index in order(turns * self.num_devices + self.rank).tolist():
                yield SampleKey(epoch, index)
