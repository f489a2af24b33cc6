"""Average precision against pycocotools itself, on the same results file."""

import contextlib
import io
import json

import numpy as np
import pytest
import torch
from pycocotools import mask as codec
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

from conmim_lightning.batches import Detections, Objects
from conmim_lightning.data.datasets.coco_masks import coco_results
from conmim_lightning.metrics.detection import DetectionMetrics

SIZE = 160
CATEGORIES = [3, 7, 8, 90]  # with gaps
NAMES = ["ap", "ap50", "ap75", "ap_small", "ap_medium", "ap_large"]


def discs(rng, count):
    """Masks of discs of all of COCO's sizes."""
    y, x = np.mgrid[:SIZE, :SIZE]
    centres, radii = rng.uniform(0, SIZE, (count, 2)), rng.choice([6, 15, 30, 60], count) * rng.uniform(0.7, 1.3, count)
    return (
        np.stack([(y - cy) ** 2 + (x - cx) ** 2 <= r**2 for (cy, cx), r in zip(centres, radii, strict=True)])
        if (count)
        else np.zeros((0, SIZE, SIZE), bool)
    )


def boxes_of(masks):
    boxes = []
    for mask in masks:
        rows, columns = np.nonzero(mask)
        boxes.append([columns.min(), rows.min(), columns.max() + 1, rows.max() + 1])
    return torch.tensor(np.array(boxes, np.float32).reshape(-1, 4))


def scene(rng, count):
    masks = discs(rng, count)
    masks = masks[masks.any((1, 2))]
    crowd = torch.tensor(rng.random(len(masks)) < 0.15)
    labels = torch.tensor(rng.integers(0, len(CATEGORIES), len(masks)))
    area = torch.tensor(masks.sum((1, 2)), dtype=torch.float32)
    return Objects(boxes_of(masks), labels, torch.tensor(masks), crowd, area)


def detect(rng, objects):
    """Most of the objects, slightly moved, some with another class, some twice, and false positives."""
    masks, labels = [], []
    for mask, label in zip(objects.masks.numpy(), objects.labels.tolist(), strict=True):
        for _ in range(rng.choice([0, 1, 2], p=[0.2, 0.6, 0.2])):
            masks.append(np.roll(mask, rng.integers(-4, 5, 2), (0, 1)))
            labels.append(label if rng.random() < 0.8 else int(rng.integers(len(CATEGORIES))))
    extra = [mask for mask in discs(rng, int(rng.integers(3))) if mask.any()]
    masks += extra
    labels += [int(rng.integers(len(CATEGORIES))) for _ in extra]
    scores = torch.tensor(np.sort(rng.random(len(masks)))[::-1].copy(), dtype=torch.float32)
    stacked = np.stack(masks) if masks else np.zeros((0, SIZE, SIZE), bool)
    return Detections(boxes_of(stacked), scores, torch.tensor(labels, dtype=torch.int64), torch.tensor(stacked))


def coco_json(scenes):
    annotations = []
    for index, objects in enumerate(scenes):
        for place in range(len(objects.boxes)):
            left, top, right, bottom = objects.boxes[place].tolist()
            encoded = codec.encode(np.asfortranarray(objects.masks[place].numpy().astype(np.uint8)))
            annotations.append(
                {
                    "id": len(annotations) + 1, "image_id": 1000 + index, "iscrowd": int(objects.crowd[place]),
                    "category_id": CATEGORIES[int(objects.labels[place])], "area": float(objects.area[place]),
                    "bbox": [left, top, right - left, bottom - top],
                    "segmentation": {"size": encoded["size"], "counts": encoded["counts"].decode()},
                }
            )  # fmt: skip
    images = [{"id": 1000 + n, "file_name": f"{n}.png", "width": SIZE, "height": SIZE} for n in range(len(scenes))]
    return {
        "images": images, "annotations": annotations, "categories": [{"id": n, "name": f"c{n}"} for n in CATEGORIES],
    }  # fmt: skip


@pytest.fixture(scope="module")
def evaluated(tmp_path_factory):
    """Scenes, predictions, and their metrics by pycocotools, from files."""
    rng = np.random.default_rng(0)
    scenes = [scene(rng, int(count)) for count in (0, *rng.integers(1, 9, 25), 0)]
    predictions = [detect(rng, objects) for objects in scenes]
    folder = tmp_path_factory.mktemp("coco")
    (folder / "truth.json").write_text(json.dumps(coco_json(scenes)))
    entries = [
        entry for n, detections in enumerate(predictions) for entry in coco_results(1000 + n, detections, CATEGORIES)
    ]
    (folder / "results.json").write_text(json.dumps(entries))
    values, classes = {}, {}
    with contextlib.redirect_stdout(io.StringIO()):
        truth = COCO(folder / "truth.json")
        for kind, ours in (("bbox", "box"), ("segm", "mask")):
            given = truth.loadRes(str(folder / "results.json"))
            if kind == "segm":  # pycocotools would sort masks by the area of their boxes if both are in the file
                given = truth.loadRes([{key: entry[key] for key in entry if key != "bbox"} for entry in entries])
            evaluation = COCOeval(truth, given, kind)
            evaluation.evaluate()
            evaluation.accumulate()
            evaluation.summarize()
            values |= dict(zip([f"{ours}_{name}" for name in NAMES], evaluation.stats[:6].tolist(), strict=True))
            values[f"{ours}_recall"] = float(evaluation.stats[8])
            precision = evaluation.eval["precision"][:, :, :, 0, 2]
            classes[ours] = {k: float(precision[:, :, k].mean()) for k in range(len(CATEGORIES))}
    return scenes, predictions, values, classes


@pytest.mark.parametrize("backend", ["faster_coco_eval", "pycocotools"])
def test_agrees_with_pycocotools_on_the_same_results(evaluated, backend):
    scenes, predictions, expected, classes = evaluated
    metrics = DetectionMetrics(masks=True, backend=backend)
    for start in range(0, len(scenes), 4):
        metrics.update(predictions[start : start + 4], scenes[start : start + 4], [""] * 4)
    values = metrics.compute()
    assert 0.1 < expected["mask_ap"] < 0.9  # the case is not trivial
    assert {key: float(value) for key, value in values.items()} == pytest.approx(expected, abs=1e-6)
    for kind in ("box", "mask"):
        assert metrics.per_class[kind] == pytest.approx(classes[kind], abs=1e-6)


def test_only_boxes(evaluated):
    scenes, predictions, expected, _ = evaluated
    metrics = DetectionMetrics(masks=False)
    metrics.update(predictions, scenes, [""] * len(scenes))
    values = metrics.compute()
    assert float(values["box_ap"]) == pytest.approx(expected["box_ap"], abs=1e-6)
    assert set(metrics.per_class) == {"box"}
    assert not [name for name in values if "mask" in name]


def test_unreadable_images_are_left_out(evaluated):
    scenes, predictions, _, _ = evaluated
    readable, all_images = DetectionMetrics(masks=False), DetectionMetrics(masks=False)
    readable.update(predictions[2:], scenes[2:], [""] * len(scenes[2:]))
    all_images.update(predictions, scenes, ["x\treason", "y\treason", *[""] * len(scenes[2:])])
    values = all_images.compute()
    assert float(values.pop("unreadable_images")) == 2
    expected = {name: float(value) for name, value in readable.compute().items()}
    assert {name: float(value) for name, value in values.items()} == pytest.approx(expected)
