"""The C library's handling of freed memory."""

import ctypes
import sys

_MMAP_MAX, _TRIM_THRESHOLD, _TOP_PAD = -4, -1, -2  # of glibc's malloc.h
_PAD = 64 * 2**20  # bytes


def keep_freed_memory() -> bool:
    """Keep memory that the process frees, for its own later use; return whether that is possible (Linux, glibc).

    A training step on a CPU allocates and frees gigabytes. By default, each large piece returns to the system and comes
    back page by page, which takes seven times as long as filling it.
    """
    if not sys.platform.startswith("linux"):
        return False
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is None:
        return False
    return all([mallopt(_MMAP_MAX, 0), mallopt(_TRIM_THRESHOLD, 2**31 - 1), mallopt(_TOP_PAD, _PAD)])
