"""Images with objects, described by a COCO JSON."""

import json
import os
from collections.abc import Collection, Iterator, Mapping, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from conmim_lightning.data.sources.array_file import PackedStrings
from conmim_lightning.data.sources.base import FileSource, digest_of
from conmim_lightning.data.sources.coco_validation import (
    FAULT,
    CheckedAnnotations,
    Entry,
    check_annotations,
    check_files,
    check_references,
    entries_of,
    load_coco,
)
from conmim_lightning.data.sources.detection_layouts import layout_hint
from conmim_lightning.data.sources.image_map_pairs import OnFault
from conmim_lightning.data.sources.object_annotations import ObjectAnnotations
from conmim_lightning.data.sources.split_paths import for_split, split_hint


class CocoSource(FileSource):
    """Images of a COCO JSON with their objects, in the order of the JSON.

    Category ids may have gaps; classes are numbered from 0 in the order of category ids.

    Args:
        root: folder that the file names are relative to.
        annotations: the JSON file.
        masks: whether the objects' outlines (polygons or run lengths) are needed; false reads boxes only.
        on_invalid: treatment of annotations whose box is empty or outside the image, whose outline is invalid, covers
            nothing or disagrees with the box, or that have an invalid field: "error" raises, "drop" leaves them out
            with a note (two of COCO's own training boxes are empty).
        filter_empty: leave out images without objects.
        excluded: names of images that may be missing or have invalid annotations.
        report_faults: list all faults by image in ``faults`` instead of raising.
        content: content in COCO's format that was read from the file ``annotations``, in another format.

    Attributes:
        faults: sentences about invalid annotations by name of the image.
        image_ids: id of each image.
        category_ids: id of each class.

    Raises:
        ValueError: the file is no COCO JSON, or contradicts itself or the folder; the error names files, ids, values.
    """

    def __init__(
        self,
        root: str | os.PathLike[str],
        annotations: str | os.PathLike[str],
        *,
        masks: bool = True,
        on_invalid: OnFault = "error",
        filter_empty: bool = False,
        excluded: Collection[str] = (),
        report_faults: bool = False,
        content: Entry | None = None,
    ) -> None:
        where = repr(os.fspath(annotations))
        if on_invalid not in ("error", "drop"):
            raise ValueError(f"on_invalid must be error or drop, got {on_invalid!r}")
        categories, images, entries = entries_of(load_coco(Path(annotations)) if content is None else content, where)
        self.category_ids = [int(entry["id"]) for entry in categories]
        owners = {entry["id"]: position for position, entry in enumerate(images)}
        labels = {category: label for label, category in enumerate(self.category_ids)}
        entries, notes = check_references(entries, owners, labels, where, drop=report_faults or on_invalid == "drop")
        checked = check_annotations(entries, images, owners, masks=masks)
        entries, self.faults = checked.valid, checked.faults
        notes += self._notes_or_error(checked, excluded, on_invalid, report_faults, where)
        with_objects = {owners[entry["image_id"]] for entry in entries}
        chosen = [
            position
            for position, image in enumerate(images)
            if (not filter_empty or position in with_objects or image["file_name"] in excluded)
            and (FAULT not in image or report_faults or image["file_name"] in excluded)
        ]
        if not chosen:
            raise ValueError(f"{where} has no image" + (" with objects" if filter_empty else ""))
        super().__init__(
            os.fspath(root),
            PackedStrings.of(os.fsencode(images[position]["file_name"]) for position in chosen),
            classes=[str(entry["name"]) for entry in categories],
        )
        dropped, empty = len(images) - len(chosen), len(chosen) - len(with_objects)
        notes += [f"{dropped} images without objects are left out"] if dropped else []
        self.notes = [*notes, *([f"{empty} images have no objects"] if empty and report_faults else [])]
        if not report_faults:
            check_files(self.root, [name for name in map(self.name, range(len(self))) if name not in excluded], where)
        self.image_ids = [images[position]["id"] for position in chosen]
        self.sizes = np.asarray([[images[n]["height"], images[n]["width"]] for n in chosen], np.int64).reshape(-1, 2)
        index = {position: index for index, position in enumerate(chosen)}
        self._pack(entries, [index[owners[entry["image_id"]]] for entry in entries], labels, masks)

    def _notes_or_error(
        self,
        checked: CheckedAnnotations,
        excluded: Collection[str],
        on_invalid: OnFault,
        report_faults: bool,
        where: str,
    ) -> list[str]:
        """Return notes about invalid annotations; ValueError if they are neither to be dropped nor reported."""
        relevant = CheckedAnnotations([], {name: text for name, text in checked.faults.items() if name not in excluded})
        sentence = relevant.sentence()
        if sentence and on_invalid == "error" and not report_faults:
            raise ValueError(f"{where} has {sentence} (data.source.on_invalid=drop leaves them out)")
        return [f"{sentence}; they are left out"] if sentence else []

    def _pack(self, entries: list[Entry], indices: list[int], labels: Mapping[int, int], masks: bool) -> None:
        """Store the annotations in arrays, ordered by the index of their image."""
        order = sorted(range(len(entries)), key=indices.__getitem__)
        entries, indices = [entries[number] for number in order], [indices[number] for number in order]
        self._starts = np.searchsorted(indices, np.arange(len(self) + 1))
        self._boxes = np.asarray([entry["bbox"] for entry in entries], np.float32).reshape(-1, 4)
        self._labels = np.asarray([labels[entry["category_id"]] for entry in entries], np.int64)
        self._crowd = np.asarray([bool(entry.get("iscrowd", 0)) for entry in entries], bool)
        areas = [(entry.get("area"), entry["bbox"][2] * entry["bbox"][3]) for entry in entries]
        self._area = np.asarray([box if area is None else area for area, box in areas], np.float32)
        self._outlines = PackedStrings.of(_pack_outlines(entries, masks))

    def class_counts(self, indices: NDArray[np.int64] | None = None) -> NDArray[np.int64]:
        """Return the number of objects of each class, without crowds, in all images or those of some indices."""
        owners = np.repeat(np.arange(len(self)), np.diff(self._starts))
        counted = ~self._crowd & (np.isin(owners, indices) if indices is not None else True)
        return np.bincount(self._labels[counted], minlength=len(self.classes))

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


class CocoSplits:
    """One folder of images and one JSON per split.

    Args:
        images: folder of a split below root, with "{split}" for its name.
        annotations: JSON of a split below root, with "{split}" for its name.
        masks: see ``CocoSource``.
        on_invalid: see ``CocoSource``.
        filter_empty: leave images without objects out of the training split.

    Attributes:
        excluded: see ``CocoSource``.
        report_faults: see ``CocoSource``.
    """

    layout = "coco_folder"

    def __init__(
        self,
        *,
        images: str = "{split}",
        annotations: str = "annotations/instances_{split}.json",
        masks: bool = True,
        on_invalid: OnFault = "error",
        filter_empty: bool = True,
    ) -> None:
        self.images = images
        self.annotations = annotations
        self.masks = masks
        self.on_invalid: OnFault = on_invalid
        self.filter_empty = filter_empty
        self.excluded: Collection[str] = ()
        self.report_faults = False
        self.folder_notes: Sequence[str] = ()  # about files of a folder that is scanned

    def __call__(self, root: str, split: str, classes: Sequence[str] | None) -> CocoSource:
        """Open a split.

        Raises:
            ValueError: the split is missing or invalid, or its classes are not those of the training split.
        """
        annotations = self._annotations(root, split)
        source = CocoSource(
            Path(root, for_split(self.images, split)),
            annotations,
            masks=self.masks,
            on_invalid=self.on_invalid,
            filter_empty=self.filter_empty and classes is None and not self.report_faults,
            excluded=self.excluded,
            report_faults=self.report_faults,
            content=self._content(root, split, classes),
        )
        source.notes = [*self.folder_notes, *source.notes]
        if classes is not None and list(classes) != list(source.classes):
            other = [f"{a!r} instead of {b!r}" for a, b in zip(source.classes, classes, strict=False) if a != b]
            raise ValueError(
                f"{str(annotations)!r} has other categories than were trained: {len(source.classes)} instead of "
                f"{len(classes)}; {', '.join(other[:5])}"
            )
        return source

    def count_classes(self, root: str, split: str) -> int:
        """Number of categories in the JSON of a split."""
        content = self._content(root, split, None)
        categories = (content or load_coco(self._annotations(root, split)))["categories"]
        if not categories:
            raise ValueError(f"{str(self._annotations(root, split))!r} has no categories")
        return len(categories)

    def _annotations(self, root: str, split: str) -> Path:
        """Return the file, or folder, of a split's annotations; ValueError if it is missing."""
        path = Path(root, for_split(self.annotations, split))
        if not path.exists():
            hint = layout_hint(root, self.layout) or split_hint(root, self.annotations)
            raise ValueError(f"annotations {str(path)!r} do not exist{hint}")
        return path

    def _content(self, root: str, split: str, classes: Sequence[str] | None) -> Entry | None:
        """Return a split's content in COCO's format if its annotations have another format."""
        return None


def _pack_outlines(entries: Sequence[Entry], masks: bool) -> Iterator[bytes]:
    for entry in entries:
        yield json.dumps(entry.get("segmentation") if masks else None).encode()
