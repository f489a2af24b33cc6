"""Validation of a COCO JSON; faults are reported with ids and values."""

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

Entry = dict[str, Any]

_SHOWN = 5
_MARGIN = 1.0  # pixels by which a box may exceed the image, for rounding
_NEEDED: dict[str, dict[str, type]] = {
    "categories": {"id": int, "name": str},
    "images": {"id": int, "file_name": str, "width": int, "height": int},
    "annotations": {"image_id": int, "category_id": int, "bbox": list},
}
_TYPES = {int: "an integer", str: "a string", list: "a list"}


class CheckedAnnotations(NamedTuple):
    """Valid annotations, and notes about the invalid ones."""

    valid: list[Entry]
    notes: list[str]


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


def _entry_fault(entry: object, keys: Mapping[str, type]) -> str:
    """Describe the missing keys, or the first value of another type, of an entry; empty if it is valid."""
    if not isinstance(entry, dict) or any(key not in entry for key in keys):
        missing = [key for key in keys if not isinstance(entry, dict) or key not in entry]
        return f"lacks {', '.join(missing)}: {str(entry)[:100]}"
    wrong = [(key, needed) for key, needed in keys.items() if not isinstance(entry[key], needed)]
    return f"has the {wrong[0][0]} {entry[wrong[0][0]]!r}, {_TYPES[wrong[0][1]]} is needed" if wrong else ""


def check_none(where: str, fault: str, annotations: Sequence[Entry], key: str) -> None:
    """Raise ValueError if there are annotations with a fault; the message shows ``key`` of the first five."""
    if annotations:
        shown = ", ".join(f"annotation {entry.get('id')} ({key} {entry.get(key)})" for entry in annotations[:_SHOWN])
        raise ValueError(f"{where}: {len(annotations)} annotations {fault}: {shown}")


def check_boxes(
    annotations: Sequence[Entry], images: Sequence[Entry], owners: Mapping[int, int], *, drop: bool, where: str
) -> CheckedAnnotations:
    """Separate annotations whose box is not four numbers, is empty, or is outside the image from valid annotations.

    Args:
        annotations: annotations to check.
        images: images of the JSON.
        owners: position in ``images`` by image id.
        drop: leave invalid boxes out with a note instead of raising.
        where: name of the file.

    Raises:
        ValueError: there are invalid boxes, and they are not to be dropped.
    """
    valid, faults = [], []
    for entry in annotations:
        image = images[owners[entry["image_id"]]]
        if fault := _box_fault(entry["bbox"], image):
            faults.append(f"annotation {entry.get('id')} of {image['file_name']!r}: {fault}")
        else:
            valid.append(entry)
    shown = "; ".join(faults[:_SHOWN])
    if faults and not drop:
        raise ValueError(f"{where}: {len(faults)} invalid boxes (data.source.on_invalid_box=drop drops them): {shown}")
    return CheckedAnnotations(valid, [f"{len(faults)} invalid boxes are left out: {shown}"] if faults else [])


def _box_fault(box: Sequence[object], image: Entry) -> str:
    numbers = [number for number in box if isinstance(number, int | float) and math.isfinite(number)]
    if len(box) != 4 or len(numbers) != 4:
        return f"bbox {str(box)[:60]} is not left, top, width, height"
    left, top, width, height = numbers
    if width <= 0 or height <= 0:
        return f"bbox {box} is empty"
    right, bottom = left + width, top + height
    if min(left, top) < -_MARGIN or right > image["width"] + _MARGIN or bottom > image["height"] + _MARGIN:
        return f"bbox {box} is outside the image of {image['width']} x {image['height']}"
    return ""
