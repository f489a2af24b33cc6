"""Synthetic scenes as files, in the layouts that the real loaders read.

``folders/{train,val}/<class>/x.jpg``: the class is that of the largest object.
``objects/{train,val}/<class>/x_n.png``: a square crop of object n, with a margin, if it lies inside the image.
``ade20k/{images,annotations}/{training,validation}/x.{jpg,png}``: image and class map, 0 = background.
``coco/{train,val}/x.jpg`` with ``coco/annotations/instances_{train,val}.json``: boxes and run-length instance masks.
The layouts share the image files as hard links, if the disk supports them.
"""

import json
import os
import shutil
from collections.abc import Iterable
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from io import BytesIO
from multiprocessing import get_context
from pathlib import Path
from typing import Any, cast

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from tqdm import tqdm

from conmim_lightning.cores import available_cores
from conmim_lightning.data.synthetic.make_once import make_once
from conmim_lightning.data.synthetic.scenes import SHAPES, Scene, SceneObject, draw_scene

_ADE20K = {"train": "training", "val": "validation"}
_MARGIN = 0.15  # around a cropped object, in units of its larger side
_MIN_CROP = 1 / 6  # smallest side of a crop, in units of the image's side
_MIN_PARALLEL = 256  # scenes; drawing fewer takes less time than starting processes


def write_scenes(root: str | os.PathLike[str], *, train: int, val: int, size: int, seed: int) -> None:
    """Write a collection of scenes, unless the folder already holds the same collection.

    Args:
        root: folder to create.
        train: number of training scenes, >= 1.
        val: number of validation scenes, >= 1, all different from the training scenes.
        size: pixels per side, >= 32.
        seed: seed of the collection.

    Raises:
        ValueError: an argument is out of range, or the folder holds other files.
    """
    if train < 1 or val < 1:
        raise ValueError(f"scenes need at least one training and one validation image, got {train} and {val}")
    draw_scene(seed, 0, size)  # rejects a bad size or seed before anything is written

    def write(folder: Path) -> None:
        _write_split(folder, "train", range(train), size, seed)
        _write_split(folder, "val", range(train, train + val), size, seed)

    make_once(
        root, {"train": train, "val": val, "size": size, "seed": seed, "classes": list(SHAPES), "layouts": 4}, write
    )


def _write_split(root: Path, split: str, indices: range, size: int, seed: int) -> None:
    write = partial(_write_scene, root=root, split=split, size=size, seed=seed)
    bar = partial(tqdm, total=len(indices), desc=f"drawing {split} scenes", unit="img", leave=False)
    if len(indices) < _MIN_PARALLEL or available_cores() == 1:
        entries = list(bar(map(write, indices)))
    else:
        with ProcessPoolExecutor(available_cores(), mp_context=get_context("spawn")) as pool:
            entries = list(bar(cast(Iterable[dict[str, Any]], pool.map(write, indices, chunksize=32))))
    categories = [{"id": category, "name": name} for category, name in enumerate(SHAPES, start=1)]
    annotations = [annotation for entry in entries for annotation in entry.pop("annotations")]
    for number, annotation in enumerate(annotations, start=1):
        annotation["id"] = number
    target = root / "coco" / "annotations" / f"instances_{split}.json"
    target.parent.mkdir(parents=True, exist_ok=True)
    target.write_text(json.dumps({"images": entries, "annotations": annotations, "categories": categories}))


def _write_scene(index: int, *, root: Path, split: str, size: int, seed: int) -> dict[str, Any]:
    """Write one scene in all layouts; return its COCO image entry, with its annotations."""
    scene = draw_scene(seed, index, size)
    name = f"scene_{index:07d}"
    with BytesIO() as buffer:
        Image.fromarray(scene.image).save(buffer, "JPEG", quality=92, subsampling=0)
        jpeg = buffer.getvalue()
    for number, scene_object in enumerate(scene.objects):
        _write_crop(scene, scene_object, root / "objects" / split / SHAPES[scene_object.label] / f"{name}_{number}.png")
    original = root / "folders" / split / SHAPES[scene.label] / f"{name}.jpg"
    original.parent.mkdir(parents=True, exist_ok=True)
    original.write_bytes(jpeg)
    for copy in (root / "ade20k" / "images" / _ADE20K[split], root / "coco" / split):
        copy.mkdir(parents=True, exist_ok=True)
        _link(original, copy / original.name)
    class_map = root / "ade20k" / "annotations" / _ADE20K[split] / f"{name}.png"
    class_map.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(scene.class_map).save(class_map)
    image_id = index + 1
    entry = {"id": image_id, "file_name": original.name, "width": size, "height": size}
    return entry | {"annotations": list(_coco_annotations(scene, image_id))}


def _write_crop(scene: Scene, scene_object: SceneObject, path: Path) -> None:
    """Write the square around an object, unless the square exceeds the image or is too small."""
    rows, columns = np.nonzero(scene_object.mask)
    (top, bottom), (left, right) = ((int(axis.min()), int(axis.max()) + 1) for axis in (rows, columns))
    side = round((1 + 2 * _MARGIN) * max(bottom - top, right - left))
    top, left = (top + bottom - side) // 2, (left + right - side) // 2
    size = len(scene.image)
    if min(top, left) < 0 or max(top, left) + side > size or side < _MIN_CROP * size:
        return
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(scene.image[top : top + side, left : left + side]).save(path)


def _link(original: Path, copy: Path) -> None:
    copy.unlink(missing_ok=True)
    try:
        os.link(original, copy)
    except OSError:  # another disk, or one without hard links
        shutil.copyfile(original, copy)


def _coco_annotations(scene: Scene, image_id: int) -> Iterable[dict[str, Any]]:
    for scene_object in scene.objects:
        rows, columns = np.nonzero(scene_object.mask)
        left, top = int(columns.min()), int(rows.min())
        yield {
            "image_id": image_id,
            "category_id": scene_object.label + 1,
            "iscrowd": 0,
            "area": int(scene_object.mask.sum()),
            "bbox": [left, top, int(columns.max()) - left + 1, int(rows.max()) - top + 1],
            "segmentation": {"size": list(scene_object.mask.shape), "counts": run_lengths(scene_object.mask)},
        }


def run_lengths(mask: NDArray[np.bool_]) -> list[int]:
    """Return COCO's uncompressed run lengths, column by column: of zeros, of ones, of zeros, ... ."""
    flat = mask.flatten(order="F").astype(np.int8)
    changes = np.flatnonzero(np.diff(flat)) + 1
    edges = np.concatenate([[0], changes, [len(flat)]])
    counts = np.diff(edges).tolist()
    return [0, *counts] if flat[0] else counts
