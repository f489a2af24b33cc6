"""Reading image files, with a reason for every file that cannot be read."""

import os
import re
import shlex
import stat
import warnings
from collections.abc import Callable
from typing import TypeVar

_Result = TypeVar("_Result")

_TARS = (".tar", ".tar.gz", ".tgz", ".tar.bz2", ".tar.xz", ".tar.zst")
_KINDS = {
    stat.S_IFDIR: "a folder",
    stat.S_IFIFO: "a pipe",
    stat.S_IFCHR: "a device",
    stat.S_IFBLK: "a device",
    stat.S_IFSOCK: "a socket",
}


class BrokenImageError(Exception):
    """An image that cannot be read; the message says why."""


def check_exists(root: str | os.PathLike[str]) -> None:
    """Raise ValueError unless the collection's folder or file exists; URLs are not checked."""
    if "://" not in os.fspath(root) and not os.path.exists(root):
        raise ValueError(f"image collection {os.fspath(root)!r} does not exist")


def check_folder(root: str | os.PathLike[str]) -> None:
    """Raise ValueError unless the folder exists."""
    check_exists(root)
    if not os.path.isdir(root):
        command = unpack_command(os.fspath(root))
        hint = f"; images in an archive are not read, unpack it: {command}" if command else ""
        raise ValueError(f"image collection {os.fspath(root)!r} is not a folder{hint}")


def unpack_command(name: str) -> str:
    """Return the command that unpacks an archive; empty for other files."""
    text, quoted = name.lower(), shlex.quote(name)
    if text.endswith(_TARS):
        return f"mkdir -p images && tar --extract --file {quoted} --directory images"
    return f"unzip {quoted} -d images" if text.endswith(".zip") else ""


def read_file(path: str | bytes, max_bytes: int | None = None, *, first: int = -1) -> bytes:
    """Read a regular file; never wait for a pipe or a device.

    Args:
        path: path of the file.
        max_bytes: larger files are rejected; None for no limit.
        first: number of bytes to read; -1 for all.

    Raises:
        BrokenImageError: the file is missing, not readable, not a regular file, empty or too large.
    """
    try:
        handle = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC | os.O_NOCTTY)
        try:
            status = os.fstat(handle)
            if not stat.S_ISREG(status.st_mode):
                kind = _KINDS.get(stat.S_IFMT(status.st_mode), "something else")
                raise BrokenImageError(f"NotAFile: it is {kind}")
            check_size(status.st_size, max_bytes)
            with open(handle, "rb", closefd=False) as file:
                return file.read(first)
        finally:
            os.close(handle)
    except (OSError, ValueError) as error:  # ValueError: a null byte in the name
        raise BrokenImageError(f"{type(error).__name__}: {getattr(error, 'strerror', None) or error}") from error


def check_size(size: int, max_bytes: int | None) -> None:
    """Raise BrokenImageError if a file is empty or too large; sizes are in bytes."""
    if size == 0:
        raise BrokenImageError("Empty: it has no bytes")
    if max_bytes is not None and size > max_bytes:
        raise BrokenImageError(f"TooLarge: {size} bytes, more than {max_bytes}")


def guarded(function: Callable[[], _Result]) -> _Result:
    """Call one of Pillow's functions and convert any exception to BrokenImageError."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # Pillow warns of odd EXIF
            return function()
    except BrokenImageError:
        raise
    except Exception as error:
        message = re.sub(r" <_io\.BytesIO object at 0x\w+>", "", str(error))
        raise BrokenImageError(f"{type(error).__name__}: {message}") from error
