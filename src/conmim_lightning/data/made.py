"""Made data: written whole or not at all, and never mixed with another."""

import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

_MARK = "made.json"


def make_once(root: str | os.PathLike[str], recipe: dict[str, Any], write: Callable[[Path], None]) -> None:
    """Write a folder unless it holds the very same data.

    All goes into a folder beside it, which is renamed at the end; what an interrupted call left there is removed.

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
    partial = root.with_name(root.name + ".partial")
    shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir(parents=True)
    write(partial)
    (partial / _MARK).write_text(json.dumps(recipe, indent=1))
    if root.exists():
        root.rmdir()
    partial.rename(root)
