"""Images with objects, described by a COCO JSON."""

import json
import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

from conmim_lightning.data.sources.array_file import PackedStrings
from conmim_lightning.data.sources.base import FileSource, digest_of
from conmim_lightning.data.sources.coco_validation import Entry, check_boxes, check_none, entries_of

OnInvalidBox = Literal["error", "drop"]


class ObjectAnnotations(NamedTuple):
    """The n annotated objects of an image.

    Attributes:
        boxes: (n, 4) float32: left, top, right, bottom.
        labels: (n,) int64 class from 0.
        crowd: (n,) bool.
        area: (n,) float32.
        outlines: n segmentations in COCO's format; n times None if outlines are not needed.
        size: height and width of the image.
    """

    boxes: NDArray[np.float32]
    labels: NDArray[np.int64]
    crowd: NDArray[np.bool_]
    area: NDArray[np.float32]
    outlines: list[Any]
    size: tuple[int, int]


class CocoSource(FileSource):
    """Images of a COCO JSON with their objects, in the order of the JSON.

    Category ids may have gaps; classes are numbered from 0 in the order of category ids.

    Args:
        root: folder that the file names are relative to.
        annotations: the JSON file.
        masks: whether the objects' outlines (polygons or run lengths) are needed; false reads boxes only.
        on_invalid_box: treatment of boxes that are empty or outside their image: "error" raises, "drop" leaves them
            out with a note (two of COCO's own training boxes are empty).
        filter_empty: leave out images without objects.

    Raises:
        ValueError: the file is no COCO JSON, or contradicts itself or the folder; the error names files, ids, values.
    """

    def __init__(
        self,
        root: str | os.PathLike[str],
        annotations: str | os.PathLike[str],
        *,
        masks: bool = True,
        on_invalid_box: OnInvalidBox = "error",
        filter_empty: bool = False,
    ) -> None:
        where = repr(os.fspath(annotations))
        if on_invalid_box not in ("error", "drop"):
            raise ValueError(f"on_invalid_box must be error or drop, got {on_invalid_box!r}")
        categories, images, entries = entries_of(_load(Path(annotations)), where)
        self.category_ids = [int(entry["id"]) for entry in categories]
        owners = {entry["id"]: position for position, entry in enumerate(images)}
        labels = {category: label for label, category in enumerate(self.category_ids)}
        orphans = [entry for entry in entries if entry["image_id"] not in owners]
        check_none(where, "name an image that is not listed", orphans, "image_id")
        unknown = [entry for entry in entries if entry["category_id"] not in labels]
        check_none(where, "name a category that is not listed", unknown, "category_id")
        entries, notes = check_boxes(entries, images, owners, drop=on_invalid_box == "drop", where=where)
        if masks:
            lacking = [entry for entry in entries if not entry.get("segmentation")]
            check_none(where, "have no segmentation (data.source.masks=false trains boxes alone)", lacking, "id")
        with_objects = {owners[entry["image_id"]] for entry in entries}
        chosen = [position for position in range(len(images)) if not filter_empty or position in with_objects]
        if not chosen:
            raise ValueError(f"{where} has no image" + (" with objects" if filter_empty else ""))
        super().__init__(
            os.fspath(root),
            PackedStrings.of(os.fsencode(images[position]["file_name"]) for position in chosen),
            classes=[str(entry["name"]) for entry in categories],
        )
        dropped = len(images) - len(chosen)
        self.notes = [*notes, *([f"{dropped} images without objects are left out"] if dropped else [])]
        self._check_files(where)
        self.image_ids = np.asarray([images[position]["id"] for position in chosen], np.int64)
        self.sizes = np.asarray([[images[n]["height"], images[n]["width"]] for n in chosen], np.int64).reshape(-1, 2)
        index = {position: index for index, position in enumerate(chosen)}
        entries = sorted(entries, key=lambda entry: index[owners[entry["image_id"]]])
        indices = [index[owners[entry["image_id"]]] for entry in entries]
        self._starts = np.searchsorted(indices, np.arange(len(chosen) + 1))
        self._boxes = np.asarray([entry["bbox"] for entry in entries], np.float32).reshape(-1, 4)
        self._labels = np.asarray([labels[entry["category_id"]] for entry in entries], np.int64)
        self._crowd = np.asarray([bool(entry.get("iscrowd", 0)) for entry in entries], bool)
        self._area = np.asarray(
            [entry.get("area", entry["bbox"][2] * entry["bbox"][3]) for entry in entries], np.float32
        )
        self._outlines = PackedStrings.of(_pack_outlines(entries, masks))

    def annotation(self, index: int, height: int = 0, width: int = 0) -> ObjectAnnotations:
        """Return the objects of an image, and the image size that the JSON gives."""
        start, stop = (int(position) for position in self._starts[index : index + 2])
        left, top, box_width, box_height = self._boxes[start:stop].T
        rows, columns = self.sizes[index].tolist()
        return ObjectAnnotations(
            boxes=np.stack([left, top, left + box_width, top + box_height], 1),
            labels=self._labels[start:stop],
            crowd=self._crowd[start:stop],
            area=self._area[start:stop],
            outlines=[json.loads(self._outlines[number]) for number in range(start, stop)],
            size=(rows, columns),
        )

    def fingerprint(self) -> str:
        """Return a digest of all names, boxes and labels."""
        return f"{super().fingerprint()}/{digest_of(self._boxes, self._labels)}"

    def _check_files(self, where: str) -> None:
        """Raise ValueError for images that are not in the folder; reads folders, not files."""
        names = [self.name(index) for index in range(len(self))]
        listed: dict[str, set[str]] = {}
        for folder in {str(Path(name).parent) for name in names}:
            folder_path = os.path.join(self.root, folder)
            listed[folder] = set(os.listdir(folder_path)) if os.path.isdir(folder_path) else set()
        missing = [name for name in names if Path(name).name not in listed[str(Path(name).parent)]]
        if missing:
            raise ValueError(
                f"{len(missing)} of {len(names)} images of {where} are not in {self.root!r}, such as {missing[0]!r}"
            )


class CocoSplits:
    """One folder of images and one JSON per split.

    Args:
        images: folder of a split below root, with "{split}" for its name.
        annotations: JSON of a split below root, with "{split}" for its name.
        masks: see ``CocoSource``.
        on_invalid_box: see ``CocoSource``.
        filter_empty: leave images without objects out of the training split.
    """

    def __init__(
        self,
        *,
        images: str = "{split}",
        annotations: str = "annotations/instances_{split}.json",
        masks: bool = True,
        on_invalid_box: OnInvalidBox = "error",
        filter_empty: bool = True,
    ) -> None:
        self.images = images
        self.annotations = annotations
        self.masks = masks
        self.on_invalid_box: OnInvalidBox = on_invalid_box
        self.filter_empty = filter_empty

    def __call__(self, root: str, split: str, classes: Sequence[str] | None) -> CocoSource:
        """Open a split.

        Raises:
            ValueError: the split is missing or invalid, or its classes are not those of the training split.
        """
        annotations = Path(root, self.annotations.format(split=split))
        source = CocoSource(
            Path(root, self.images.format(split=split)),
            annotations,
            masks=self.masks,
            on_invalid_box=self.on_invalid_box,
            filter_empty=self.filter_empty and classes is None,
        )
        if classes is not None and list(classes) != list(source.classes):
            other = [f"{a!r} instead of {b!r}" for a, b in zip(source.classes, classes, strict=False) if a != b]
            raise ValueError(
                f"{str(annotations)!r} has other categories than were trained: {len(source.classes)} instead of "
                f"{len(classes)}; {', '.join(other[:5])}"
            )
        return source

    def count_classes(self, root: str, split: str) -> int:
        """Number of categories in the JSON of a split."""
        return len(_load(Path(root, self.annotations.format(split=split)))["categories"])


def _load(path: Path) -> Entry:
    try:
        content = json.loads(path.read_bytes())
    except (OSError, ValueError) as error:
        raise ValueError(f"annotations {str(path)!r} cannot be read as COCO JSON: {error}") from error
    if not isinstance(content, dict) or not all(
        isinstance(content.get(key), list) for key in ("images", "annotations", "categories")
    ):
        raise ValueError(f"{str(path)!r} is not a COCO JSON: it needs lists images, annotations and categories")
    return content


def _pack_outlines(entries: Sequence[Entry], masks: bool) -> Iterator[bytes]:
    for entry in entries:
        yield json.dumps(entry.get("segmentation") if masks else None).encode()
