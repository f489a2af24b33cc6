import json

import pytest
from coco_files import content
from image_tree import touch

from conmim_lightning.data.sources.coco import CocoSplits
from conmim_lightning.data.sources.detection_layouts import layout_hint, likely_layout
from conmim_lightning.data.sources.voc import VocSplits
from conmim_lightning.data.sources.yolo import YoloSplits

LAYOUTS = {
    "yolo_folder": ["images/train/a.jpg", "labels/train/a.txt"],
    "voc_folder": ["JPEGImages/a.jpg", "Annotations/a.xml"],
    "coco_folder": ["train/a.jpg", "annotations/instances_other.json"],
}
SPLITS = {"yolo_folder": YoloSplits, "voc_folder": VocSplits, "coco_folder": CocoSplits}
NAMES = {"coco_folder": "COCO", "yolo_folder": "YOLO", "voc_folder": "Pascal VOC"}


@pytest.fixture(params=LAYOUTS)
def layout(request, tmp_path):
    touch(tmp_path, *LAYOUTS[request.param])
    for path in tmp_path.rglob("*.json"):
        path.write_text(json.dumps(content()))
    return request.param


def test_each_layout_is_recognised(layout, tmp_path):
    assert likely_layout(tmp_path) == layout
    assert layout_hint(tmp_path, layout) == ""


@pytest.mark.parametrize("chosen", SPLITS)
def test_a_wrong_choice_names_the_right_one(layout, chosen, tmp_path):
    if chosen == layout:
        return
    with pytest.raises(ValueError, match=f"the folder looks like {NAMES[layout]}: choose data={layout}"):
        SPLITS[chosen]()(str(tmp_path), "train", None)


def test_roboflows_yolo(tmp_path):
    touch(tmp_path, "train/images/a.jpg", "train/labels/a.txt", "data.yaml")
    assert likely_layout(tmp_path) == "yolo_folder"


def test_nothing_known(tmp_path):
    touch(tmp_path, "a.jpg", "x/labels.txt", "x/y.json")
    assert likely_layout(tmp_path) == likely_layout(tmp_path / "none") == ""
