"""What a COCO JSON must hold; all that is wrong with it is told with numbers and values."""

import math
from collections import Counter
from collections.abc import Sequence
from typing import Any, NamedTuple

Entry = dict[str, Any]

_SHOWN = 5
_MARGIN = 1.0  # pixels that a box may reach over an image's edge, for rounding
_NEEDED: dict[str, dict[str, type]] = {
    "categories": {"id": int, "name": str},
    "images": {"id": int, "file_name": str, "width": int, "height": int},
    "annotations": {"image_id": int, "category_id": int, "bbox": list},
}


_TOLD = {int: "a whole number", str: "a text", list: "a list"}


class Checked(NamedTuple):
    """Annotations that are fit, and remarks on the others."""

    fit: list[Entry]
    remarks: list[str]


def entries_of(found: Entry, where: str) -> tuple[list[Entry], list[Entry], list[Entry]]:
    """Categories by number, images and annotations.

    Raises:
        ValueError: an entry lacks something, or a number is there twice.
    """
    for kind, keys in _NEEDED.items():
        for place, entry in enumerate(found[kind]):
            if fault := _entry_fault(entry, keys):
                raise ValueError(f"{where}: number {place} of {kind} {fault}")
    for kind in ("categories", "images"):
        number, times = Counter(entry["id"] for entry in found[kind]).most_common(1)[0] if found[kind] else (0, 0)
        if times > 1:
            raise ValueError(f"{where}: {kind} have the id {number} more than once")
    if len(found["categories"]) < 1:
        raise ValueError(f"{where} has no categories")
    return sorted(found["categories"], key=lambda entry: entry["id"]), found["images"], found["annotations"]


def _entry_fault(entry: Any, keys: dict[str, type]) -> str:
    """What an entry lacks, or has of another kind than needed."""
    if missing := [key for key in keys if not isinstance(entry, dict) or key not in entry]:
        return f"lacks {', '.join(missing)}: {str(entry)[:100]}"
    wrong = [(key, needed) for key, needed in keys.items() if not isinstance(entry[key], needed)]
    return f"has the {wrong[0][0]} {entry[wrong[0][0]]!r}, needed is {_TOLD[wrong[0][1]]}" if wrong else ""


def refuse(where: str, what: str, notes: Sequence[Entry], key: str) -> None:
    """Raise ValueError if there are annotations of which ``what`` is true; shows the first ones' ``key``."""
    if notes:
        shown = ", ".join(f"annotation {note.get('id')} ({key} {note.get(key)})" for note in notes[:_SHOWN])
        raise ValueError(f"{where}: {len(notes)} annotations {what}: {shown}")


def check_boxes(
    notes: Sequence[Entry], images: Sequence[Entry], owners: dict[Any, int], *, drop: bool, where: str
) -> Checked:
    """Sort out boxes that are no four numbers, empty, or outside their image.

    Args:
        notes: annotations.
        images: their images.
        owners: place in ``images`` by id.
        drop: leave them out with a remark instead of refusing.
        where: name of the file.

    Raises:
        ValueError: there are some, and they are not to be dropped.
    """
    fit, faults = [], []
    for note in notes:
        image = images[owners[note["image_id"]]]
        if fault := _fault(note["bbox"], image):
            faults.append(f"annotation {note.get('id')} of {image['file_name']!r}: {fault}")
        else:
            fit.append(note)
    told = "; ".join(faults[:_SHOWN])
    if faults and not drop:
        raise ValueError(f"{where}: {len(faults)} unfit boxes (data.source.unfit=drop leaves them out): {told}")
    return Checked(fit, [f"{len(faults)} unfit boxes are left out: {told}"] if faults else [])


def _fault(box: Any, image: Entry) -> str:
    numbers = isinstance(box, list) and len(box) == 4 and all(isinstance(n, int | float) for n in box)
    if not numbers or not all(map(math.isfinite, box)):
        return f"bbox {str(box)[:60]} is not left, top, width, height"
    left, top, width, height = box
    if width <= 0 or height <= 0:
        return f"bbox {box} is empty"
    right, bottom = left + width, top + height
    if min(left, top) < -_MARGIN or right > image["width"] + _MARGIN or bottom > image["height"] + _MARGIN:
        return f"bbox {box} is outside the image of {image['width']} x {image['height']}"
    return ""
