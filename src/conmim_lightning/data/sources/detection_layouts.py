"""The usual layouts of images with boxes, to name the right one when another was chosen."""

import os
from pathlib import Path

_COCO_KEYS = (b'"images"', b'"annotations"', b'"categories"')
_READ = 1 << 20  # bytes of a JSON that are searched
_LOOKED_AT = 200  # files per folder


def layout_hint(root: str | os.PathLike[str], chosen: str) -> str:
    """Return a hint if the folder looks like another layout than ``chosen``; empty otherwise.

    Args:
        root: folder of the collection.
        chosen: "coco_folder", "yolo_folder" or "voc_folder".
    """
    layout = likely_layout(root)
    if not layout or layout == chosen:
        return ""
    return f"; the folder looks like {_NAMES[layout]}: choose data={layout}"


def likely_layout(root: str | os.PathLike[str]) -> str:
    """Return "coco_folder", "yolo_folder" or "voc_folder", whichever a folder looks like; empty for none of them."""
    folder = Path(root)
    if not folder.is_dir():
        return ""
    if (folder / "Annotations").is_dir() and _has(folder / "Annotations", ".xml"):
        return "voc_folder"
    inner = [folder, *(path for path in sorted(folder.iterdir())[:_LOOKED_AT] if path.is_dir())]
    if any(_is_coco(path) for place in inner for path in sorted(place.glob("*.json"))[:_LOOKED_AT]):
        return "coco_folder"
    labels = [place / "labels" for place in inner if (place / "labels").is_dir()]
    if any(_has(place, ".txt") or any(map(_has_texts, place.iterdir())) for place in labels):
        return "yolo_folder"
    return ""


_NAMES = {"coco_folder": "COCO", "yolo_folder": "YOLO", "voc_folder": "Pascal VOC"}


def _has(folder: Path, suffix: str) -> bool:
    return any(path.suffix == suffix for path in sorted(folder.iterdir())[:_LOOKED_AT])


def _has_texts(folder: Path) -> bool:
    return folder.is_dir() and _has(folder, ".txt")


def _is_coco(path: Path) -> bool:
    with path.open("rb") as file:
        start = file.read(_READ)
    return sum(key in start for key in _COCO_KEYS) > 1
