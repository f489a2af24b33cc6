"""A small collection with a COCO JSON: ids with gaps, crowds, images without objects, both kinds of outlines."""

import json
from pathlib import Path

import numpy as np
from PIL import Image

from conmim_lightning.data.sources.coco import CocoSource

SQUARE = [[10, 10, 30, 10, 30, 30, 10, 30]]


def annotation(number: int, image: int, category: int, box: object, outline: object = SQUARE, **more: object):
    return {
        "id": number, "image_id": image, "category_id": category, "bbox": box, "segmentation": outline, "area": 400.0,
        "iscrowd": 0, **more,
    }  # fmt: skip


def content(**changes: object) -> dict:
    counts = [0, 50 * 10, 50 * 30]  # the first ten columns
    unchanged = {
        "images": [{"id": n, "file_name": f"{n}.png", "width": 40, "height": 50} for n in (5, 2, 9)],
        "categories": [{"id": 7, "name": "dog"}, {"id": 3, "name": "cat"}, {"id": 90, "name": "cow"}],
        "annotations": [
            annotation(1, 9, 90, [10, 10, 20, 20]),
            annotation(2, 5, 3, [0, 0, 10, 50], {"size": [50, 40], "counts": counts}, iscrowd=1, area=500),
            annotation(3, 9, 7, [10, 10, 20, 20]),
        ],
    }
    return unchanged | changes


def with_annotations(*annotations: dict) -> dict:
    return content(annotations=list(annotations))


def write_images(folder: Path) -> Path:
    """Images of 40 x 50 pixels in ``train`` and ``val``."""
    for split in ("train", "val"):
        (folder / split).mkdir()
        for number in (2, 5, 9):
            pixels = np.random.default_rng(number).integers(0, 255, (50, 40, 3), np.uint8)
            Image.fromarray(pixels).save(folder / split / f"{number}.png")
    return folder


def source(folder: Path, json_content: object = None, **settings: object) -> CocoSource:
    """The training split with an annotation file."""
    path = folder / "annotations" / "instances_train.json"
    path.parent.mkdir(exist_ok=True)
    path.write_text(json.dumps(content() if json_content is None else json_content))
    return CocoSource(folder / "train", path, **settings)  # type: ignore[arg-type]
