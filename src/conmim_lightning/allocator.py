"""What the C library does with memory that is given back."""

import ctypes
import sys

_MMAP_MAX, _TRIM_THRESHOLD, _TOP_PAD = -4, -1, -2  # of glibc's malloc.h
_PAD = 64 * 2**20  # bytes


def keep_freed_memory() -> bool:
    """Let the process keep memory that it frees, for its own later use; True where that is possible (Linux, glibc).

    A training step on a CPU frees and takes gigabytes. By default each large piece goes back to the system and comes
    again page by page, which takes seven times as long as to fill it.
    """
    if not sys.platform.startswith("linux"):
        return False
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is None:
        return False
    return all([mallopt(_MMAP_MAX, 0), mallopt(_TRIM_THRESHOLD, 2**31 - 1), mallopt(_TOP_PAD, _PAD)])
