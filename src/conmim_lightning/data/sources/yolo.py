"""Images with objects in YOLO's layout: a text file with normalised boxes or polygons for each image."""

import math
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import yaml
from tqdm import tqdm

from conmim_lightning.data.images.decode import Decoder
from conmim_lightning.data.images.files import BrokenImageError, read_file
from conmim_lightning.data.images.formats import DEFAULT_FORMATS
from conmim_lightning.data.images.jpeg_header import jpeg_header
from conmim_lightning.data.sources.coco import CocoSplits
from conmim_lightning.data.sources.coco_validation import FAULT, Entry
from conmim_lightning.data.sources.detection_layouts import layout_hint
from conmim_lightning.data.sources.folder import FolderSource
from conmim_lightning.data.sources.split_paths import for_split, split_hint

_BOX = 4  # numbers of a box: centre and size
_START = 1 << 16  # bytes of a file, which hold the header of most JPEGs
_READERS = 16  # files that are opened at once


class YoloSplits(CocoSplits):
    """Splits of ``root/images/<split>/x.jpg`` with ``root/labels/<split>/x.txt``, or of other templates.

    A line is ``class centre_x centre_y width height``, or ``class x y x y ...`` for a polygon, in fractions of the
    image. An image without a file has no objects.

    Args:
        images: folder of a split's images below root, with "{split}" for its name.
        annotations: folder of a split's text files below root.
        names: file of class names below root, with the key "names" (data.yaml); null for ``class_names``.
        class_names: class names by number; null for those of the file.
        masks: whether outlines are needed; every object then needs a polygon.
        on_invalid: see ``CocoSource``.
        filter_empty: see ``CocoSplits``.
        upright: whether the numbers concern the image as rotated by its orientation tag, as ``data.decoder.upright``.
        formats: see ``FolderSource``.
        include_hidden: see ``FolderSource``.
        **others: see ``CocoSplits``.
    """

    layout = "yolo_folder"

    def __init__(
        self,
        *,
        images: str = "images/{split}",
        annotations: str = "labels/{split}",
        names: str | None = "data.yaml",
        class_names: Sequence[str] | None = None,
        masks: bool = False,
        upright: bool = True,
        formats: Sequence[str] = DEFAULT_FORMATS,
        include_hidden: bool = False,
        **others: Any,
    ) -> None:
        super().__init__(images=images, annotations=annotations, masks=masks, **others)
        self.names = names
        self.class_names = class_names
        self.formats = tuple(formats)
        self.include_hidden = include_hidden
        self.decoder = Decoder(upright=upright, formats=formats)

    def count_classes(self, root: str, split: str) -> int:
        """Number of class names."""
        return len(self._names(root))

    def _content(self, root: str, split: str, classes: Sequence[str] | None) -> Entry:
        labels, names = self._annotations(root, split), self._names(root)
        folder = Path(root, for_split(self.images, split))
        if not folder.is_dir():
            hint = layout_hint(root, self.layout) or split_hint(root, self.images)
            raise ValueError(f"image folder {str(folder)!r} does not exist{hint}")
        source = FolderSource(folder, formats=self.formats, include_hidden=self.include_hidden)
        self.folder_notes = source.notes
        images: list[Entry] = []
        annotations: list[Entry] = []
        for index, (width, height) in enumerate(self._sizes(source)):
            name = source.name(index)
            images.append({"id": index, "file_name": name, "width": width, "height": height})
            for entry in _entries(labels / Path(name).with_suffix(".txt"), width, height, len(names)):
                annotations.append(entry | {"image_id": index})
        categories = [{"id": number, "name": name} for number, name in enumerate(names)]
        return {"categories": categories, "images": images, "annotations": annotations}

    def _sizes(self, source: FolderSource) -> Iterator[tuple[int, int]]:
        """Yield width and height of each image."""
        paths = map(source.path, range(len(source)))
        with ThreadPoolExecutor(_READERS) as pool:
            sizes = pool.map(self._size, paths)
            yield from tqdm(sizes, "reading image sizes", len(source), unit="img", delay=1, leave=False)

    def _size(self, path: Path) -> tuple[int, int]:
        """Return width and height of an image; 1 x 1 for a broken image, which is reported when it is read."""
        try:
            content = read_file(str(path), self.decoder.max_bytes, first=_START)
            if not jpeg_header(content).complete:  # other formats may have their orientation at the end
                content = read_file(str(path), self.decoder.max_bytes)
            image = self.decoder.open(content)
        except BrokenImageError:
            return 1, 1
        return image.width, image.height

    def _names(self, root: str) -> list[str]:
        if self.class_names is not None:
            return [str(name) for name in self.class_names]
        if self.names is None:
            raise ValueError("YOLO's labels are numbers; give data.source.class_names=[...] or data.source.names=")
        return _read_names(Path(root, self.names), layout_hint(root, self.layout))


def _read_names(path: Path, hint: str) -> list[str]:
    """Read the names of a data.yaml: a list, or a dictionary by number."""
    try:
        content = yaml.safe_load(path.read_text("utf-8"))
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise ValueError(
            f"class names {str(path)!r} cannot be read: {error}{hint}; or give data.source.class_names=[...]"
        ) from error
    names: Any = content.get("names") if isinstance(content, dict) else None
    if isinstance(names, dict):
        names = [names.get(number) for number in range(len(names))]
    if not isinstance(names, list) or not names or not all(isinstance(name, str | int) for name in names):
        raise ValueError(f"{str(path)!r} has no list of class names under the key 'names'")
    return list(map(str, names))


def _entries(path: Path, width: int, height: int, num_classes: int) -> Iterator[Entry]:
    """Yield the objects of a file in COCO's format; an invalid line becomes an annotation with a fault."""
    if not path.is_file():
        return
    for number, line in enumerate(path.read_text("utf-8", "replace").splitlines(), 1):
        if line.strip():
            where = f"{path.name}:{number}"
            try:
                yield {"id": where} | _entry(line.split(), width, height, num_classes)
            except ValueError as error:
                yield {"id": where, "category_id": 0, "bbox": [], FAULT: f"{error}: {line.strip()[:80]!r}"}


def _entry(words: Sequence[str], width: int, height: int, num_classes: int) -> Entry:
    if not words[0].isdigit() or int(words[0]) >= num_classes:
        raise ValueError(f"the class is a number from 0 to {num_classes - 1}")
    try:
        numbers = [float(word) for word in words[1:]]
    except ValueError:
        numbers = []
    if len(numbers) != _BOX and (len(numbers) < 6 or len(numbers) % 2):
        raise ValueError("after the class, a line has centre and size of a box, or at least three points")
    if not all(math.isfinite(value) and -0.01 <= value <= 1.01 for value in numbers):
        raise ValueError("YOLO's numbers are fractions of the image, from 0 to 1")
    scaled = [value * (height if index % 2 else width) for index, value in enumerate(numbers)]
    if len(scaled) == _BOX:
        across, down, box_width, box_height = scaled
        return {
            "category_id": int(words[0]),
            "bbox": [across - box_width / 2, down - box_height / 2, box_width, box_height],
        }
    left, top = min(scaled[0::2]), min(scaled[1::2])
    box = [left, top, max(scaled[0::2]) - left, max(scaled[1::2]) - top]
    return {"category_id": int(words[0]), "bbox": box, "segmentation": [scaled]}
