"""Writing of files that are complete or absent, and errors that name the file."""

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

PARTIAL = ".partial-"
"""Mark in the name of a temporary file."""


@contextmanager
def naming(path: str | os.PathLike[str]) -> Iterator[None]:
    """Raise an OSError again with the path, if it names none; errors of ``write`` do not."""
    try:
        yield
    except OSError as error:
        if error.errno is None or (error.filename is not None and PARTIAL not in str(error.filename)):
            raise
        raise OSError(error.errno, os.strerror(error.errno), os.fspath(path)) from error


@contextmanager
def replacing(path: str | os.PathLike[str]) -> Iterator[Path]:
    """Yield a temporary path in the same folder; at the end, rename it to ``path`` in one step.

    At an error, the temporary file is removed and the earlier file stays as it was. The folder is created.

    Args:
        path: file to write.

    Raises:
        OSError: the file cannot be written; it names ``path``.
    """
    path = Path(path)
    temporary = path.with_name(f".{path.stem}{PARTIAL}{os.getpid()}{path.suffix}")
    with naming(path):
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            yield temporary
            temporary.replace(path)
        except BaseException:
            with suppress(OSError):
                temporary.unlink(missing_ok=True)
            raise


@contextmanager
def replacing_folder(path: str | os.PathLike[str]) -> Iterator[Path]:
    """Yield a temporary folder beside ``path``; at the end, rename it. At an error, it is removed.

    Args:
        path: folder to write, which must be missing or empty.
    """
    path = Path(path)
    temporary = path.with_name(f".{path.name}{PARTIAL}{os.getpid()}")
    with naming(path):
        try:
            temporary.mkdir(parents=True)
            yield temporary
            if path.is_dir():
                path.rmdir()
            temporary.rename(path)
        finally:
            shutil.rmtree(temporary, ignore_errors=True)


def write_text(path: str | os.PathLike[str], text: str, errors: str = "surrogateescape") -> None:
    """Write a text file in UTF-8, completely or not at all."""
    with replacing(path) as temporary:
        temporary.write_text(text, encoding="utf-8", errors=errors)


def remove_partial(folder: str | os.PathLike[str]) -> None:
    """Remove the temporary files that a killed process left in a folder and below."""
    for path in Path(folder).rglob(f".*{PARTIAL}*"):
        path.unlink(missing_ok=True)


def check_writable(folder: str | os.PathLike[str]) -> None:
    """Create a folder, and raise OSError, which names it, unless files can be created there."""
    os.makedirs(folder, exist_ok=True)
    trial = Path(folder, f".writable{PARTIAL}{os.getpid()}")
    with naming(folder):
        trial.write_bytes(b"")
    trial.unlink(missing_ok=True)
