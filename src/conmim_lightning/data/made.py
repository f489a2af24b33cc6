"""Made data: written whole or not at all, and never mixed with another."""

import glob
import json
import os
import platform
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

_MARK = "made.json"


def make_once(root: str | os.PathLike[str], recipe: dict[str, Any], write: Callable[[Path], None]) -> None:
    """Write a folder unless it holds the very same data.

    All goes into a folder beside it, which is renamed at the end; what an interrupted call left there is removed. Of
    several processes that make the same data at once each writes its own, and the first one's is taken.

    Args:
        root: folder to make.
        recipe: what determines the data, JSON values; kept in the folder.
        write: fills the folder that it is given.

    Raises:
        ValueError: the folder holds other data.
    """
    root = Path(root)
    mark = root / _MARK
    if mark.is_file():
        found = json.loads(mark.read_text())
        if found == recipe:
            return
        raise ValueError(f"{str(root)!r} holds other made data: {found}; choose another folder or remove that one")
    if root.exists() and (not root.is_dir() or any(root.iterdir())):
        raise ValueError(f"{str(root)!r} holds files that were not made here; choose another folder")
    _remove_abandoned(root)
    partial = root.with_name(f"{root.name}.partial-{platform.node()}-{os.getpid()}")
    partial.mkdir(parents=True)
    try:
        write(partial)
        (partial / _MARK).write_text(json.dumps(recipe, indent=1))
        if not mark.is_file():  # else another process was faster
            if root.exists():
                root.rmdir()
            partial.rename(root)
    except OSError:
        if not mark.is_file():
            raise
    finally:
        shutil.rmtree(partial, ignore_errors=True)


def _remove_abandoned(root: Path) -> None:
    """Remove what processes of this machine left that do not run any more."""
    for partial in root.parent.glob(f"{glob.escape(root.name)}.partial-{glob.escape(platform.node())}-*"):
        try:
            os.kill(int(partial.name.rsplit("-", 1)[1]), 0)
        except (ProcessLookupError, ValueError):
            shutil.rmtree(partial, ignore_errors=True)
        except PermissionError:
            continue
