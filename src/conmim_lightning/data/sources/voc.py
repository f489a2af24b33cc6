"""Images with boxes in Pascal VOC's layout: an XML file for each image, and lists of the images of each split."""

import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

from conmim_lightning.data.images.formats import DEFAULT_FORMATS, suffixes_of
from conmim_lightning.data.sources.coco import CocoSplits
from conmim_lightning.data.sources.coco_validation import FAULT, Entry
from conmim_lightning.data.sources.detection_layouts import layout_hint
from conmim_lightning.data.sources.split_paths import for_split, split_hint

_SIDES = ("xmin", "ymin", "xmax", "ymax")
_LARGEST = 10_000_000  # bytes of an XML


class VocSplits(CocoSplits):
    """Splits of ``JPEGImages/x.jpg`` with ``Annotations/x.xml``, listed in ``ImageSets/Main/<split>.txt``, below root.

    Corners are pixels from 1, the right and lower one included, as in Pascal VOC. Objects marked as difficult are
    crowds: they are neither trained nor judged.

    Args:
        images: folder of the images below root.
        annotations: folder of the XML files below root.
        lists: list of a split's images below root, with "{split}" for its name; one name per line, without suffix.
        class_names: class names; null for those of the training split's objects, sorted.
        masks: must be false: the XML files have no outlines.
        formats: see ``FolderSource``.
        **others: see ``CocoSplits``.
    """

    layout = "voc_folder"

    def __init__(
        self,
        *,
        images: str = "JPEGImages",
        annotations: str = "Annotations",
        lists: str = "ImageSets/Main/{split}.txt",
        class_names: Sequence[str] | None = None,
        masks: bool = False,
        formats: Sequence[str] = DEFAULT_FORMATS,
        **others: Any,
    ) -> None:
        if masks:
            raise ValueError("Pascal VOC's XML files have boxes alone; data.source.masks must be false")
        super().__init__(images=images, annotations=annotations, masks=False, **others)
        self.lists = lists
        self.class_names = class_names
        self.suffixes = suffixes_of(formats)

    def count_classes(self, root: str, split: str) -> int:
        """Number of class names."""
        return len(self._content(root, split, None)["categories"])

    def _content(self, root: str, split: str, classes: Sequence[str] | None) -> Entry:
        folder, files = self._annotations(root, split), self._files(root, split)
        images: list[Entry] = []
        entries: list[Entry] = []
        for index, name in enumerate(self._listed(root, split)):
            file_name = files.get(name, f"{name}.jpg")
            width, height, objects = _parsed(folder / f"{name}.xml")
            image = {"id": index, "file_name": file_name, "width": width, "height": height}
            images.append(image if width else image | {"width": 1, "height": 1, FAULT: "damaged"})
            entries += [entry | {"image_id": index, "id": f"{name}.xml"} for entry in objects]
        present = {entry["name"] for entry in entries if FAULT not in entry}
        names = list(self.class_names or classes or sorted(present))
        names += sorted(present - set(names))  # rejected as other classes
        if not names:
            raise ValueError(
                f"{str(folder)!r}: the images of split {split!r} have no objects, hence there are no classes"
            )
        numbers = {name: number for number, name in enumerate(names, 1)}
        return {
            "categories": [{"id": number, "name": name} for name, number in numbers.items()],
            "images": images,
            "annotations": [entry | {"category_id": numbers.get(entry["name"], 1)} for entry in entries],
        }

    def _listed(self, root: str, split: str) -> list[str]:
        path = Path(root, for_split(self.lists, split))
        try:
            lines = path.read_text("utf-8").splitlines()
        except (OSError, UnicodeDecodeError) as error:
            hint = layout_hint(root, self.layout) or split_hint(root, self.lists)
            raise ValueError(f"list of images {str(path)!r} cannot be read: {error}{hint}") from error
        return [_name(line) for line in lines if line.strip()]

    def _files(self, root: str, split: str) -> dict[str, str]:
        """Return the name of each image file by its stem."""
        folder = Path(root, for_split(self.images, split))
        names = sorted(path.name for path in folder.iterdir()) if folder.is_dir() else []
        return {Path(name).stem: name for name in names if name.lower().endswith(self.suffixes)}


def _name(line: str) -> str:
    """Return the name in a line, without the 1, 0 or -1 that lists of one class have after it."""
    return re.sub(r"\s+-?[01]$", "", line.strip())


def _parsed(path: Path) -> tuple[int, int, list[Entry]]:
    """Return width, height and objects in an XML file; a damaged file is 0, 0 and one annotation with a fault."""
    try:
        if path.stat().st_size > _LARGEST:
            raise ValueError(f"it has more than {_LARGEST} bytes")
        tree = ElementTree.fromstring(path.read_bytes())  # expat itself limits the expansion of entities
        width, height = (_whole(tree.findtext(f"size/{side}")) for side in ("width", "height"))
    except (OSError, ValueError, ElementTree.ParseError, LookupError) as error:
        return 0, 0, [{"name": "", "bbox": [], FAULT: f"{str(path)!r} cannot be read: {error}"}]
    return width, height, list(_entries(tree))


def _entries(tree: ElementTree.Element) -> Iterator[Entry]:
    """Yield the objects in COCO's format; an invalid one becomes an annotation with a fault."""
    for node in tree.iter("object"):
        name = (node.findtext("name") or "").strip()
        corners = [_number(node.findtext(f"bndbox/{side}")) for side in _SIDES]
        difficult = (node.findtext("difficult") or "0").strip()
        entry: Entry = {"name": name, "bbox": [], "iscrowd": int(difficult == "1")}
        if not name:
            entry[FAULT] = "an object has no name"
        elif difficult not in ("0", "1"):
            entry[FAULT] = f"difficult is {difficult[:40]!r}; 0 or 1 is needed"
        elif any(corner is None for corner in corners):
            entry[FAULT] = f"the box of {name!r} lacks {', '.join(_SIDES)}, or they are not numbers"
        else:
            left, top, right, bottom = (corner or 0.0 for corner in corners)
            entry["bbox"] = [left - 1, top - 1, right - left + 1, bottom - top + 1]
        yield entry


def _number(text: str | None) -> float | None:
    try:
        return float(text or "")
    except ValueError:
        return None


def _whole(text: str | None) -> int:
    """Return a side in pixels; ValueError unless it is a whole number from 1 on."""
    if not text or not text.strip().isdigit() or int(text) < 1:
        raise ValueError(f"width and height are whole numbers from 1 on, got {text!r}")
    return int(text)
