"""Creation of data that is complete or absent, and never mixed with other data."""

import glob
import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from platform import node
from typing import Any

import psutil

_MARK = "made.json"


def make_once(root: str | os.PathLike[str], recipe: dict[str, Any], write: Callable[[Path], None]) -> None:
    """Create a folder of data, unless it already holds the same data.

    The data is written to a temporary folder beside it, which is renamed at the end. Leftovers of interrupted
    calls are removed. If several processes create the data at once, the first to finish wins.

    Args:
        root: folder to create.
        recipe: JSON values that determine the data; stored in the folder.
        write: function that writes the data to a folder.

    Raises:
        ValueError: the folder holds other data.
    """
    root = Path(root)
    mark = root / _MARK
    if mark.is_file():
        existing = json.loads(mark.read_text())
        if existing == recipe:
            return
        raise ValueError(f"{str(root)!r} holds other created data: {existing}; choose another folder or remove it")
    if root.exists() and (not root.is_dir() or any(root.iterdir())):
        raise ValueError(f"{str(root)!r} holds files that were not created here; choose another folder")
    _remove_abandoned(root)
    partial = root.with_name(f"{root.name}.partial-{node()}-{os.getpid()}")
    partial.mkdir(parents=True)
    try:
        write(partial)
        (partial / _MARK).write_text(json.dumps(recipe, indent=1))
        if not mark.is_file():  # otherwise another process was faster
            if root.exists():
                root.rmdir()
            partial.rename(root)
    except OSError:
        if not mark.is_file():
            raise
    finally:
        shutil.rmtree(partial, ignore_errors=True)


def _remove_abandoned(root: Path) -> None:
    """Remove the temporary folders of this machine's processes that have ended."""
    for partial in root.parent.glob(f"{glob.escape(root.name)}.partial-{glob.escape(node())}-*"):
        process = partial.name.rsplit("-", 1)[1]
        if not process.isdigit() or not psutil.pid_exists(int(process)):
            shutil.rmtree(partial, ignore_errors=True)
