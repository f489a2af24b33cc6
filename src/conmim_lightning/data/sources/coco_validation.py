"""Validation of a COCO JSON; faults are reported with ids and values."""

import json
import math
import os
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple, cast

from conmim_lightning.data.sources.outlines import Extent, extent

Entry = dict[str, Any]

FAULT = "_fault"
"""Key of an annotation that a reader of another format could not convert, with the reason."""

_SHOWN = 5
_MARGIN = 1.0  # pixels by which a box may exceed the image, or a box and an outline may differ, for rounding
_SIMILAR = 0.2  # smallest intersection over union of a box and the box of its outline
_ROUNDED_ONE, _NEARLY_ALL = 1.01, 0.95  # largest right or lower edge, and fraction of such boxes
_LARGEST = 1_000_000_000  # pixels of a side, coordinates
_NEEDED: dict[str, dict[str, type]] = {
    "categories": {"id": int, "name": str},
    "images": {"id": int, "file_name": str, "width": int, "height": int},
    "annotations": {"image_id": int, "category_id": int, "bbox": list},
}
_TYPES = {int: "an integer", str: "a string", list: "a list"}


class CheckedAnnotations(NamedTuple):
    """Valid annotations, and the faults of the others by name of their image."""

    valid: list[Entry]
    faults: dict[str, list[str]]

    def sentence(self) -> str:
        """Return the number of invalid annotations and the first ones; empty if there are none."""
        listed = [f"{fault} ({name!r})" for name, faults in self.faults.items() for fault in faults]
        return f"{len(listed)} invalid annotations: {'; '.join(listed[:_SHOWN])}" if listed else ""


def load_coco(path: Path) -> Entry:
    """Read a COCO JSON; ValueError if it is none."""
    try:
        content = json.loads(path.read_bytes())
    except (OSError, ValueError, RecursionError) as error:
        raise ValueError(f"annotations {str(path)!r} cannot be read as COCO JSON: {error}") from error
    if not isinstance(content, dict) or not all(
        isinstance(content.get(key), list) for key in ("images", "annotations", "categories")
    ):
        raise ValueError(f"{str(path)!r} is not a COCO JSON: it needs lists images, annotations and categories")
    return content


def entries_of(content: Entry, where: str) -> tuple[list[Entry], list[Entry], list[Entry]]:
    """Return the categories (sorted by id), images and annotations of a COCO JSON.

    Raises:
        ValueError: an entry lacks a key or has a value of another type, an id is repeated, or there are no categories.
    """
    for kind, keys in _NEEDED.items():
        for index, entry in enumerate(content[kind]):
            if fault := _entry_fault(entry, keys):
                raise ValueError(f"{where}: entry {index} of {kind} {fault}")
    for kind in ("categories", "images"):
        ids = Counter(entry["id"] for entry in content[kind]).most_common(1)
        if ids and ids[0][1] > 1:
            raise ValueError(f"{where}: {kind} have the id {ids[0][0]} more than once")
    if not content["categories"]:
        raise ValueError(f"{where} has no categories")
    return sorted(content["categories"], key=lambda entry: entry["id"]), content["images"], content["annotations"]


def check_references(
    annotations: Sequence[Entry], owners: Mapping[int, int], labels: Mapping[int, int], where: str, *, drop: bool
) -> tuple[list[Entry], list[str]]:
    """Return the annotations of listed images and categories, and notes about the others.

    Args:
        annotations: annotations to check.
        owners: position of the image by image id.
        labels: class by category id.
        where: name of the file.
        drop: leave others out with a note instead of raising.

    Raises:
        ValueError: there are others, and they are not to be dropped.
    """
    notes = []
    for key, known, text in (
        ("image_id", owners, "name an image that is not listed"),
        ("category_id", labels, "name a category that is not listed"),
    ):
        wrong = [entry for entry in annotations if entry[key] not in known]
        annotations = [entry for entry in annotations if entry[key] in known]
        if wrong:
            shown = ", ".join(
                f"annotation {entry.get('id')} ({key} {str(entry[key])[:40]})" for entry in wrong[:_SHOWN]
            )
            notes.append(f"{where}: {len(wrong)} annotations {text}: {shown}")
    if notes and not drop:
        raise ValueError("; ".join(notes))
    return list(annotations), [f"{note}; they are left out" for note in notes]


def check_annotations(
    annotations: Sequence[Entry], images: Sequence[Entry], owners: Mapping[int, int], *, masks: bool
) -> CheckedAnnotations:
    """Separate valid annotations from those with an invalid box, outline or optional field.

    Args:
        annotations: annotations to check.
        images: images of the JSON.
        owners: position in ``images`` by image id.
        masks: whether outlines are needed.

    If nearly all boxes look like fractions of their images, all are invalid.
    """
    valid: list[Entry] = []
    faults: dict[str, list[str]] = {}
    for entry in annotations:
        image = images[owners[entry["image_id"]]]
        fault = entry.get(FAULT) or _box_fault(entry["bbox"], image) or _field_fault(entry)
        if fault := fault or (masks and _outline_fault(entry, image)):
            faults.setdefault(image["file_name"], []).append(
                f"annotation {str(entry.get('id'))[: _SHOWN * 8]}: {fault}"
            )
        else:
            valid.append(entry)
    if not _fractions(valid):
        return CheckedAnnotations(valid, faults)
    for entry in valid:
        text = f"annotation {str(entry.get('id'))[: _SHOWN * 8]}: bbox {entry['bbox']} is a fraction, pixels are needed"
        faults.setdefault(images[owners[entry["image_id"]]]["file_name"], []).append(text)
    return CheckedAnnotations([], faults)


def check_files(root: str, names: Sequence[str], where: str) -> None:
    """Raise ValueError for images that are not in the folder; reads folders, not files."""
    listed: dict[str, set[str]] = {}
    for folder in {str(Path(name).parent) for name in names}:
        folder_path = os.path.join(root, folder)
        listed[folder] = set(os.listdir(folder_path)) if os.path.isdir(folder_path) else set()
    missing = [name for name in names if Path(name).name not in listed[str(Path(name).parent)]]
    if missing:
        raise ValueError(
            f"{len(missing)} of {len(names)} images of {where} are not in {root!r}, such as {missing[0]!r}"
        )


def _entry_fault(entry: object, keys: Mapping[str, type]) -> str:
    """Describe the missing keys, or the first invalid value, of an entry; empty if it is valid."""
    if not isinstance(entry, dict) or any(key not in entry for key in keys):
        missing = [key for key in keys if not isinstance(entry, dict) or key not in entry]
        return f"lacks {', '.join(missing)}: {str(entry)[:100]}"
    for key, needed in keys.items():
        value = entry[key]
        if not isinstance(value, needed) or isinstance(value, bool):
            return f"has the {key} {str(value)[:100]!r}, {_TYPES[needed]} is needed"
        if key in ("width", "height") and not 1 <= value <= _LARGEST:
            return f"has the {key} {str(value)[:100]}, pixels from 1 on are needed"
        if key == "file_name" and not _is_file_name(value):
            return f"has the file_name {value[:100]!a}, which is no name of a file"
    return ""


def _box_fault(box: Sequence[object], image: Entry) -> str:
    if len(box) != 4 or not all(map(_is_number, box)):
        return f"bbox {str(box)[:60]} is not left, top, width, height"
    left, top, width, height = (float(number) for number in cast(Sequence[float], box))
    if width <= 0 or height <= 0:
        return f"bbox {box} is empty"
    right, bottom = left + width, top + height
    if min(left, top) < -_MARGIN or right > image["width"] + _MARGIN or bottom > image["height"] + _MARGIN:
        return f"bbox {box} is outside the image of {image['width']} x {image['height']}"
    return ""


def _field_fault(entry: Entry) -> str:
    """Describe an invalid optional field."""
    crowd, area = entry.get("iscrowd"), entry.get("area")
    if crowd is not None and (not isinstance(crowd, int) or crowd not in (0, 1)):
        return f"iscrowd is {str(crowd)[:60]!r}; 0, 1, true or false is needed"
    if area is not None and not (_is_number(area) and area >= 0):
        return f"area is {str(area)[:60]!r}; a finite number from 0 on is needed"
    return ""


def _outline_fault(entry: Entry, image: Entry) -> str:
    outline = entry.get("segmentation")
    if not outline:
        return "it has no segmentation (data.source.masks=false trains boxes alone)"
    try:
        around = extent(outline, image["height"], image["width"])
    except ValueError as error:
        return str(error)
    if _similarity(entry["bbox"], around) < _SIMILAR:
        shown = ", ".join(f"{number:g}" for number in (around.left, around.top, around.right, around.bottom))
        left, top, width, height = entry["bbox"]
        box = ", ".join(f"{number:g}" for number in (left, top, left + width, top + height))
        return f"its box and its segmentation disagree: left, top, right, bottom are {box} and {shown}"
    return ""


def _similarity(box: Sequence[float], around: Extent) -> float:
    """Return the intersection over union of two boxes, each enlarged by the margin."""
    left, top, right, bottom = box[0], box[1], box[0] + box[2], box[1] + box[3]
    across = min(right, around.right) - max(left, around.left) + 2 * _MARGIN
    down = min(bottom, around.bottom) - max(top, around.top) + 2 * _MARGIN
    if across <= 0 or down <= 0:
        return 0.0
    both = across * down
    own = (box[2] + 2 * _MARGIN) * (box[3] + 2 * _MARGIN)
    other = (around.right - around.left + 2 * _MARGIN) * (around.bottom - around.top + 2 * _MARGIN)
    return both / (own + other - both)


def _fractions(annotations: Sequence[Entry]) -> bool:
    """Return whether the boxes look like fractions of their images: nearly all within 0 and 1, with decimals."""
    boxes = [entry["bbox"] for entry in annotations]
    within = sum(max(box[0] + box[2], box[1] + box[3]) <= _ROUNDED_ONE for box in boxes)
    decimal = any(float(number) % 1 for box in boxes for number in box)
    return bool(boxes) and within >= _NEARLY_ALL * len(boxes) and decimal


def _is_file_name(name: str) -> bool:
    try:
        return bool(name) and "\0" not in name and bool(os.fsencode(name))
    except UnicodeEncodeError:
        return False


def _is_number(value: object) -> bool:
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    return is_number and (isinstance(value, int) or math.isfinite(value)) and -_LARGEST <= value <= _LARGEST  # type: ignore[operator]
