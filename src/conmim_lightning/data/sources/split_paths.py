"""Paths of splits: templates with "{split}", and the names of the splits that exist."""

import os
from pathlib import Path

_USUAL = ("train", "training", "val", "valid", "validation", "test", "testing", "dev")  # names of splits
_SHOWN = 8
_NAME = "{split}"


def for_split(template: str, split: str) -> str:
    """Return a path with the split's name for "{split}".

    Raises:
        ValueError: the template has another name in braces.
    """
    path = template.replace(_NAME, split)
    if "{" in path or "}" in path:
        raise ValueError(f"a path takes {{split}} for the split's name and no other braces, got {template!r}")
    return path


def split_hint(root: str | os.PathLike[str], template: str) -> str:
    """Return a hint that names the splits of a collection, for messages that one is missing; empty if there is none.

    Args:
        root: folder of the collection.
        template: path of a split below root, with "{split}" for its name.
    """
    existing = existing_splits(root, template)
    likely = [name for name in existing if name.lower() in _USUAL] or existing
    if not likely:
        return ""
    return f"; there are {', '.join(likely[:_SHOWN])}, choose one with data.val=, data.test= or data.train="


def existing_splits(root: str | os.PathLike[str], template: str) -> list[str]:
    """Return the names for which the path of a template exists; for a template without a suffix, as a folder."""
    components = template.split("/")
    position = next((index for index, component in enumerate(components) if _NAME in component), None)
    if position is None:
        return []
    folder, (before, _, after) = Path(root, *components[:position]), components[position].partition(_NAME)
    entries = sorted(entry.name for entry in os.scandir(folder)) if folder.is_dir() else []
    inner = [name.removeprefix(before).removesuffix(after) for name in entries if not name.startswith(".")]
    paths = {name: Path(root, template.replace(_NAME, name)) for name in inner if name}
    is_file = Path(template).suffix
    return [name for name, path in paths.items() if (path.is_file() if is_file else path.is_dir())]
