"""Setting of the C library's allocator for freed memory."""

import ctypes
import sys

_MMAP_MAX, _TRIM_THRESHOLD, _TOP_PAD = -4, -1, -2  # constants of glibc's malloc.h
_PAD = 64 * 2**20  # bytes


def keep_freed_memory() -> bool:
    """Keep freed memory in the process for later allocations; return whether that is possible (Linux, glibc).

    A training step on a CPU allocates and frees gigabytes. By default, each large block goes back to the system and is
    mapped again page by page, which takes seven times as long as filling it.
    """
    if not sys.platform.startswith("linux"):
        return False
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is None:
        return False
    return all([mallopt(_MMAP_MAX, 0), mallopt(_TRIM_THRESHOLD, 2**31 - 1), mallopt(_TOP_PAD, _PAD)])
