"""Every random choice about a sample is a pure function of (seed, epoch, sample index).

So crops, flips, masks and perturbations depend neither on the number of workers, nor on the number of devices, nor on
where a run was resumed.
"""

import torch

_WORD = (1 << 64) - 1


def _mix(value: int) -> int:
    """Finaliser of SplitMix64 (Steele, Lea, Flood 2014): a bijection of 64-bit words whose outputs look independent."""
    value = (value + 0x9E3779B97F4A7C15) & _WORD
    value = ((value ^ (value >> 30)) * 0xBF58476D1CE4E5B9) & _WORD
    value = ((value ^ (value >> 27)) * 0x94D049BB133111EB) & _WORD
    return value ^ (value >> 31)


def stream_seed(*words: int) -> int:
    """Fold whole numbers, in order, into one 64-bit seed; any change of any of them gives an unrelated seed."""
    state = 0
    for word in words:
        state = _mix(state ^ _mix(word & _WORD))
    return state


def generator(seed: int, epoch: int, index: int) -> torch.Generator:
    """CPU generator from which all random choices about sample ``index`` in ``epoch`` are drawn, in a fixed order."""
    return torch.Generator().manual_seed(stream_seed(seed, epoch, index) >> 1)
