"""Images with objects, as a COCO JSON describes them."""

import json
import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from conmim_lightning.data.coco_check import check_boxes, entries_of, refuse
from conmim_lightning.data.mapped import Names
from conmim_lightning.data.sources import FileSource, digest_of

Unfit = Literal["refuse", "drop"]


class CocoSource(FileSource):
    """The images of a COCO JSON, in its order, and their objects.

    Category numbers may have gaps; classes are numbered from 0 in the order of category numbers.

    Args:
        root: folder that the file names are relative to.
        annotations: the JSON file.
        masks: whether the objects' outlines (polygons or run lengths) are wanted; without, boxes are enough.
        unfit: what to do with boxes that are empty or outside their image: "refuse" the file, or "drop" them with a
            note (two of COCO's own training boxes are empty).
        skip_empty: leave out images without objects.

    Raises:
        ValueError: the file is no COCO JSON, or contradicts itself or the folder; files, numbers and values are named.
    """

    def __init__(
        self,
        root: str | os.PathLike[str],
        annotations: str | os.PathLike[str],
        *,
        masks: bool = True,
        unfit: Unfit = "refuse",
        skip_empty: bool = False,
    ) -> None:
        where = repr(os.fspath(annotations))
        if unfit not in ("refuse", "drop"):
            raise ValueError(f"unfit must be refuse or drop, got {unfit!r}")
        found = _loaded(Path(annotations))
        categories, images, notes = entries_of(found, where)
        self.category_ids = [int(entry["id"]) for entry in categories]
        owners = {entry["id"]: number for number, entry in enumerate(images)}
        labels = {number: label for label, number in enumerate(self.category_ids)}
        refuse(where, "name an image that is not listed", [n for n in notes if n["image_id"] not in owners], "image_id")
        unknown = [note for note in notes if note["category_id"] not in labels]
        refuse(where, "name a category that is not listed", unknown, "category_id")
        self.notes, told = [], check_boxes(notes, images, owners, drop=unfit == "drop", where=where)
        notes = told.fit
        self.notes += told.remarks
        if masks:
            lacking = [note for note in notes if not note.get("segmentation")]
            refuse(where, "have no segmentation (data.source.masks=false trains boxes alone)", lacking, "id")
        kept = {owners[note["image_id"]] for note in notes} if skip_empty else set(range(len(images)))
        chosen = [number for number in range(len(images)) if number in kept]
        if not chosen:
            raise ValueError(f"{where} has no image" + (" with objects" if skip_empty else ""))
        super().__init__(
            os.fspath(root),
            Names.of(os.fsencode(images[number]["file_name"]) for number in chosen),
            classes=[str(entry["name"]) for entry in categories],
        )
        if len(chosen) < len(images):
            self.notes.append(f"{len(images) - len(chosen)} images without objects are left out")
        self._check_files(where)
        self.image_ids = np.asarray([images[number]["id"] for number in chosen], np.int64)
        self.sizes = np.asarray([[images[n]["height"], images[n]["width"]] for n in chosen], np.int64).reshape(-1, 2)
        place = {number: rank for rank, number in enumerate(chosen)}
        notes = sorted(notes, key=lambda note: place[owners[note["image_id"]]])
        ranks = [place[owners[note["image_id"]]] for note in notes]
        self._starts = np.searchsorted(ranks, np.arange(len(chosen) + 1))
        self._boxes = np.asarray([note["bbox"] for note in notes], np.float32).reshape(-1, 4)
        self._labels = np.asarray([labels[note["category_id"]] for note in notes], np.int64)
        self._crowd = np.asarray([bool(note.get("iscrowd", 0)) for note in notes], bool)
        self._area = np.asarray([note.get("area", note["bbox"][2] * note["bbox"][3]) for note in notes], np.float32)
        self._outlines = Names.of(_packed(notes, masks))

    def annotation(self, index: int, *_: int) -> dict[str, Any]:
        """What is known of an image's n objects.

        Returns:
            "boxes" (n, 4) float32: left, top, right, bottom; "labels" (n,) int64 from 0; "crowd" (n,) bool; "area" (n,)
            float32; "outlines", n of COCO's segmentations, null where there is none; "size", (height, width).
        """
        part = slice(*(int(place) for place in self._starts[index : index + 2]))
        left, top, width, height = self._boxes[part].T
        return {
            "boxes": np.stack([left, top, left + width, top + height], 1),
            "labels": self._labels[part],
            "crowd": self._crowd[part],
            "area": self._area[part],
            "outlines": [json.loads(self._outlines[number]) for number in range(part.start, part.stop)],
            "size": tuple(self.sizes[index].tolist()),
        }

    def object_counts(self) -> NDArray[np.int64]:
        """(number of classes,) objects of each class, crowds not counted."""
        return np.bincount(self._labels[~self._crowd], minlength=len(self.classes))

    def fingerprint(self) -> str:
        """From all names and boxes."""
        return f"{super().fingerprint()}/{digest_of(self._boxes, self._labels)}"

    def _check_files(self, where: str) -> None:
        """Raise ValueError for images that are not in the folder; reads folders, not files."""
        names = [self.name(index) for index in range(len(self))]
        listed: dict[str, set[str]] = {}
        for folder in {str(Path(name).parent) for name in names}:
            place = os.path.join(self.root, folder)
            listed[folder] = set(os.listdir(place)) if os.path.isdir(place) else set()
        missing = [name for name in names if Path(name).name not in listed[str(Path(name).parent)]]
        if missing:
            raise ValueError(
                f"{len(missing)} of {len(names)} images of {where} are not in {self.root!r}, such as {missing[0]!r}"
            )


class CocoParts:
    """A folder of images and a JSON for each part.

    Args:
        images: folder of a part below root, with "{part}" for its name.
        annotations: JSON of a part below root, likewise.
        masks: see ``CocoSource``.
        unfit: see ``CocoSource``.
        skip_empty: leave images without objects out of the training part.
    """

    def __init__(
        self,
        *,
        images: str = "{part}",
        annotations: str = "annotations/instances_{part}.json",
        masks: bool = True,
        unfit: Unfit = "refuse",
        skip_empty: bool = True,
    ) -> None:
        self.skip_empty = skip_empty
        self.places = (images, annotations)
        self.settings: dict[str, Any] = {"masks": masks, "unfit": unfit}

    def __call__(self, root: str, part: str, classes: Sequence[str] | None) -> CocoSource:
        """A part.

        Raises:
            ValueError: there is none, or its classes are not those of the training part.
        """
        images, annotations = (Path(root, place.format(part=part)) for place in self.places)
        found = CocoSource(images, annotations, skip_empty=self.skip_empty and classes is None, **self.settings)
        if classes is not None and list(classes) != list(found.classes):
            other = [f"{a!r} instead of {b!r}" for a, b in zip(found.classes, classes, strict=False) if a != b]
            raise ValueError(
                f"{str(annotations)!r} has other categories than were trained: {len(found.classes)} instead of "
                f"{len(classes)}; {', '.join(other[:5])}"
            )
        return found


def _loaded(path: Path) -> dict[str, Any]:
    try:
        found = json.loads(path.read_bytes())
    except (OSError, ValueError) as error:
        raise ValueError(f"annotations {str(path)!r} cannot be read: {error}") from error
    if not isinstance(found, dict) or not all(
        isinstance(found.get(key), list) for key in ("images", "annotations", "categories")
    ):
        raise ValueError(f"{str(path)!r} is no COCO JSON: it needs lists images, annotations and categories")
    return found


def _packed(notes: Sequence[dict[str, Any]], masks: bool) -> Iterator[bytes]:
    for note in notes:
        yield json.dumps(note.get("segmentation") if masks else None).encode()
