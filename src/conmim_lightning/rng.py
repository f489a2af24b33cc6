"""Random generators: every random choice about a sample is a pure function of (seed, epoch, sample index).

Crops, flips, masks and perturbations therefore depend neither on the number of workers, nor on the number of devices,
nor on where a run was resumed.
"""

import random
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import torch

_WORD = (1 << 64) - 1


def _mix(value: int) -> int:
    """Finaliser of SplitMix64 (Steele, Lea, Flood 2014): a bijection of 64-bit words whose outputs look independent."""
    value = (value + 0x9E3779B97F4A7C15) & _WORD
    value = ((value ^ (value >> 30)) * 0xBF58476D1CE4E5B9) & _WORD
    value = ((value ^ (value >> 27)) * 0x94D049BB133111EB) & _WORD
    return value ^ (value >> 31)


def stream_seed(*words: int) -> int:
    """Hash integers, in order, into one 64-bit seed; changing any of them gives an unrelated seed."""
    state = 0
    for word in words:
        state = _mix(state ^ _mix(word & _WORD))
    return state


def generator(seed: int, epoch: int, index: int) -> torch.Generator:
    """Return the CPU generator for all random choices about sample ``index`` in ``epoch``."""
    return torch.Generator().manual_seed(stream_seed(seed, epoch, index) >> 1)


@contextmanager
def seeded_globally(*words: int) -> Iterator[None]:
    """Seed Python's and numpy's global generators within the context, for libraries that use nothing else.

    Args:
        words: integers that are hashed to the seed, see ``stream_seed``.
    """
    seed = stream_seed(*words)
    before, before_numpy = random.getstate(), np.random.get_state()
    random.seed(seed)
    np.random.seed(seed & 0xFFFFFFFF)
    try:
        yield
    finally:
        random.setstate(before)
        np.random.set_state(before_numpy)
