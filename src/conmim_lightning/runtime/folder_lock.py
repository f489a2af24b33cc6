"""One process per run folder: a second one with the same folder would write into the first one's records."""

import os
import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TextIO

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None

_NAME = ".lock"
_PATIENCE = 10.0  # seconds for the processes of a killed run to end
_held: list[TextIO] = []


@contextmanager
def folder_lock(folder: str) -> Iterator[None]:
    """Hold a folder during the block; the system releases it also if the process is killed.

    File systems without locks are not protected.

    Raises:
        ValueError: another process holds the folder; the message names it.
    """
    file = _acquire(Path(folder, _NAME)) if fcntl else None
    if file is None:
        yield
        return
    _held.append(file)
    try:
        yield
    finally:
        _held.remove(file)
        with suppress(OSError):
            Path(folder, _NAME).unlink()
        file.close()


def _acquire(path: Path) -> TextIO | None:
    """Return the locked file; None if the file system has no locks."""
    assert fcntl
    deadline = time.monotonic() + _PATIENCE
    while True:
        try:
            file = path.open("a+", encoding="utf-8")
        except OSError:
            return None  # a folder that cannot be written is reported elsewhere
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            holder = _read(file)
            file.close()
            if time.monotonic() > deadline:
                raise ValueError(
                    f"{str(path.parent)!r} is in use by {holder or 'another process'}; wait for its end, or choose "
                    "another paths.run_dir"
                ) from None
            time.sleep(0.2)
            continue
        except OSError:
            file.close()
            return None
        if _is_current(file, path):
            file.truncate(0)
            file.write(f"process {os.getpid()} on {socket.gethostname()}")
            file.flush()
            return file
        file.close()  # its holder has just removed it


def _read(file: TextIO) -> str:
    file.seek(0)
    return file.read(200).strip()


def _is_current(file: TextIO, path: Path) -> bool:
    with suppress(OSError):
        own, other = os.fstat(file.fileno()), path.stat()
        return (own.st_dev, own.st_ino) == (other.st_dev, other.st_ino)
    return False


def _close_in_child() -> None:
    """Let a forked loader process not hold the folder after this process has ended."""
    for file in _held:
        with suppress(OSError):
            file.close()
    _held.clear()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_close_in_child)
