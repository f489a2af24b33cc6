"""The order of samples: the same for any number of devices, and resumable at any batch."""

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch.utils.data import Sampler

from conmim_lightning.rng import stream_seed

_ORDER_STREAM = -1  # number of the random stream that shuffles an epoch; samples use streams from 0
_LARGEST_LIST = 1 << 20  # larger permutations are computed on demand; a list of this size takes 8 MiB
_ROUNDS = 6
_CHUNK = 1 << 14


class SampleKey(NamedTuple):
    """Key of a sample: with the seed, it determines everything random about the sample."""

    epoch: int
    index: int  # pyright: ignore[reportIncompatibleMethodOverride]


class ResumableSampler(Sampler[SampleKey]):
    """Sampler of one device that can continue where a run stopped."""

    def __init__(self) -> None:
        self.epoch = 0
        self._resume_epoch, self._resume_from = 0, 0

    def set_epoch(self, epoch: int) -> None:
        """Set the epoch of the next iteration; Lightning calls this."""
        self.epoch = epoch

    def resume(self, epoch: int, consumed: int) -> None:
        """Continue within an epoch.

        Args:
            epoch: epoch to continue.
            consumed: number of samples of that epoch that this device has already used.
        """
        self.epoch = epoch
        self._resume_epoch, self._resume_from = epoch, consumed

    @property
    def start(self) -> int:
        """Number of samples of the current epoch that this device has already used."""
        return self._resume_from if self.epoch == self._resume_epoch else 0

    def __len__(self) -> int:
        """Number of samples per epoch on this device."""
        raise NotImplementedError

    def __iter__(self) -> Iterator[SampleKey]:
        """Yield the keys of this device's samples in the current epoch."""
        raise NotImplementedError


class Permutation:
    """A random permutation of 0 ... size - 1 as a function of the position.

    Up to 2^20 elements are stored as a list. A larger permutation is a Feistel network over the smallest even number of
    bits that covers ``size``. Results of ``size`` or more pass through it again until they are smaller (cycle walking).
    It is therefore a bijection, and its memory does not grow with ``size``.
    Reference: Black and Rogaway, "Ciphers with arbitrary finite domains", 2002.

    Args:
        size: number of elements, >= 1.
        seed: 64-bit integer.
    """

    def __init__(self, size: int, seed: int) -> None:
        self.size = size
        self._list = None
        if size <= _LARGEST_LIST:
            self._list = torch.randperm(size, generator=torch.Generator().manual_seed(seed >> 1)).numpy()
        self._half = max(1, ((size - 1).bit_length() + 1) // 2)
        self._keys = [np.uint64(stream_seed(seed, number)) for number in range(_ROUNDS)]

    def __call__(self, positions: NDArray[np.int64]) -> NDArray[np.int64]:
        """Return the elements at these positions.

        Args:
            positions: (n,) int64, from 0 to size - 1.
        """
        if self._list is not None:
            return self._list[positions]
        elements = self._encipher(positions.astype(np.uint64))
        while (outside := elements >= self.size).any():
            elements[outside] = self._encipher(elements[outside])
        return elements.astype(np.int64)

    def _encipher(self, words: NDArray[np.uint64]) -> NDArray[np.uint64]:
        half, mask = np.uint64(self._half), np.uint64((1 << self._half) - 1)
        left, right = words >> half, words & mask
        for key in self._keys:
            left, right = right, left ^ (_mix(right ^ key) & mask)
        return (left << half) | right


def _mix(words: NDArray[np.uint64]) -> NDArray[np.uint64]:
    """Apply SplitMix64's finaliser, as in ``rng``, to each word."""
    words = words + np.uint64(0x9E3779B97F4A7C15)
    words = (words ^ (words >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    words = (words ^ (words >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return words ^ (words >> np.uint64(31))


class EpochSampler(ResumableSampler):
    """Sample a new permutation per epoch; device r of R takes its positions r, r + R, r + 2R, ... .

    A global batch therefore holds the same samples for any R. The last ``num_samples % num_devices`` samples of every
    epoch are dropped (never repeated); the loader also drops an incomplete batch.

    Args:
        num_samples: number of images in the source.
        seed: seed of the run.
        rank: rank r of this device, 0 to R - 1.
        num_devices: number of devices R.
    """

    def __init__(self, num_samples: int, *, seed: int, rank: int = 0, num_devices: int = 1) -> None:
        super().__init__()
        self.num_samples = num_samples
        self.seed = seed
        self.rank = rank
        self.num_devices = num_devices

    def __len__(self) -> int:
        """Number of samples per epoch on this device."""
        return self.num_samples // self.num_devices

    def __iter__(self) -> Iterator[SampleKey]:
        """Yield the keys of this device's samples in the current epoch."""
        order = Permutation(self.num_samples, stream_seed(self.seed, self.epoch, _ORDER_STREAM))
        return self._keys(self.epoch, order, self.start)

    def _keys(self, epoch: int, order: Permutation, start: int) -> Iterator[SampleKey]:
        for first in range(start, len(self), _CHUNK):
            steps = np.arange(first, min(first + _CHUNK, len(self)), dtype=np.int64)
            for index in order(steps * self.num_devices + self.rank).tolist():
                yield SampleKey(epoch, index)
