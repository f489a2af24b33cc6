import json
import random

import numpy as np
import pytest
from coco_files import annotation, content, source, with_annotations, write_images

from conmim_lightning.data.datasets.coco_masks import decode_masks

TINY = {"size": [50, 40], "counts": [2000]}

FAULTS = {
    "crowd as text": (
        with_annotations(annotation(4, 5, 3, [10, 10, 20, 20], iscrowd="0")),
        "iscrowd is '0'; 0, 1, true or false is needed",
    ),
    "infinite area": (
        with_annotations(annotation(4, 5, 3, [10, 10, 20, 20], area=float("inf"))),
        "area is 'inf'; a finite number from 0 on is needed",
    ),
    "negative area": (with_annotations(annotation(4, 5, 3, [10, 10, 20, 20], area=-1)), "area is '-1'"),
    "outline without area": (
        with_annotations(annotation(4, 5, 3, [10, 10, 20, 20], [[10, 10, 20, 20, 30, 30]])),
        "the segmentation covers nothing of the image",
    ),
    "empty run lengths": (
        with_annotations(annotation(4, 5, 3, [10, 10, 20, 20], TINY)),
        "the segmentation covers nothing of the image",
    ),
    "outline elsewhere": (
        with_annotations(annotation(4, 5, 3, [0, 40, 8, 8])),
        "its box and its segmentation disagree: left, top, right, bottom are 0, 40, 8, 48 and 10, 10, 30, 30",
    ),
    "a dictionary instead of a list": (
        with_annotations(annotation(4, 5, 3, [10, 10, 20, 20], {"polygons": []})),
        "a segmentation is a list of polygons or run lengths",
    ),
    "fractions of the image": (
        with_annotations(annotation(4, 5, 3, [0.1, 0.1, 0.2, 0.2], None), annotation(5, 9, 3, [0, 0, 0.5, 0.5], None)),
        "2 invalid annotations: annotation 4: bbox .* is a fraction, pixels are needed",
    ),
    "no pixels": (content(images=[{"id": 1, "file_name": "x", "width": 0, "height": 4}]), "has the width 0, pixels"),
    "boolean id": (
        content(images=[{"id": True, "file_name": "x", "width": 4, "height": 4}]),
        "has the id 'True', an integer is needed",
    ),
    "null byte": (
        content(images=[{"id": 1, "file_name": "a\0b", "width": 4, "height": 4}]),
        "which is no name of a file",
    ),
    "huge box": (with_annotations(annotation(4, 5, 3, [10**400, 1, 2, 2])), "is not left, top, width, height"),
    "no list": ({"images": []}, "not a COCO JSON: it needs lists images, annotations and categories"),
    "missing key": (content(images=[{"id": 1, "file_name": "x"}]), "entry 0 of images lacks width, height"),
    "two images of an id": (content(images=content()["images"] + content()["images"][:1]), "images have the id 5"),
    "id of text": (
        content(images=[{"id": "a", "file_name": "x", "width": 4, "height": 4}]),
        "has the id 'a', an integer is needed",
    ),
    "no width": (
        content(images=[{"id": 1, "file_name": "x", "width": None, "height": 4}]),
        "has the width 'None', an integer is needed",
    ),
    "box of text": (with_annotations(annotation(4, 5, 3, "abcd")), "has the bbox 'abcd', a list is needed"),
    "no categories": (content(categories=[], annotations=[]), "has no categories"),
    "missing image": (
        with_annotations(annotation(4, 77, 3, [1, 1, 2, 2])),
        r"1 annotations name an image that is not listed: annotation 4 \(image_id 77\)",
    ),
    "unknown category": (
        with_annotations(annotation(4, 5, 8, [1, 1, 2, 2])),
        r"name a category that is not listed: annotation 4 \(category_id 8\)",
    ),
    "box outside": (
        with_annotations(annotation(4, 5, 3, [30, 1, 20, 2])),
        r"annotation 4: bbox .* is outside the .*\('5\.png'\)",
    ),
    "box left of the image": (with_annotations(annotation(4, 5, 3, [-5, 1, 20, 2])), "outside the image of 40 x 50"),
    "empty box": (
        with_annotations(annotation(4, 5, 3, [3, 1, 0, 2])),
        r"1 invalid annotations: .* is empty .*on_invalid=drop",
    ),
    "box of three numbers": (with_annotations(annotation(4, 5, 3, [3, 1, 2])), "is not left, top, width, height"),
    "box with NaN": (
        with_annotations(annotation(4, 5, 3, [3, 1, 2, float("nan")])),
        "is not left, top, width, height",
    ),
    "no outline": (
        with_annotations(annotation(4, 5, 3, [3, 1, 2, 2], None)),
        r"it has no segmentation \(data.source.masks=false",
    ),
}


@pytest.fixture
def folder(tmp_path):
    return write_images(tmp_path)


@pytest.mark.parametrize("fault", FAULTS)
def test_faults_are_reported(folder, fault):
    json_content, message = FAULTS[fault]
    with pytest.raises(ValueError, match=rf"instances_train\.json.*{message}"):
        source(folder, json_content, masks=fault != "fractions of the image")


def test_invalid_boxes_may_be_dropped(folder):
    json_content = with_annotations(
        annotation(1, 9, 90, [10, 10, 20, 20]),
        annotation(2, 9, 3, [3, 3, 0, 5]),
        annotation(3, 5, 3, [3, 3, 90, 5]),
    )
    coco = source(folder, json_content, on_invalid="drop")
    assert coco.annotation(2).labels.tolist() == [2]
    assert coco.notes[0].startswith("2 invalid annotations: annotation 2: bbox [3, 3, 0, 5] is empty ('9.png')")
    with pytest.raises(ValueError, match="on_invalid must be error or drop, got 'skip'"):
        source(folder, on_invalid="skip")


def test_rounded_fractions_are_noticed_and_a_tiny_box_is_none(folder):
    boxes = [[0.1, 0.1, 0.2, 0.2]] * 30 + [[0.333334, 0.1, 0.666667, 0.3]]
    fractions = [annotation(number, 9, 3, box, None) for number, box in enumerate(boxes)]
    with pytest.raises(ValueError, match="31 invalid annotations"):
        source(folder, with_annotations(*fractions), masks=False)
    assert len(source(folder, with_annotations(*fractions), masks=False, report_faults=True).faults["9.png"]) == 31
    tiny = source(folder, with_annotations(annotation(1, 9, 3, [0, 0, 1, 1], None)), masks=False)
    assert tiny.annotation(2).boxes.tolist() == [[0, 0, 1, 1]]


def test_references_to_nothing_may_be_dropped_and_are_reported_together(folder):
    objects = [
        annotation(1, 77, 3, [1, 1, 2, 2]),
        annotation(2, 5, 8, [1, 1, 2, 2]),
        annotation(3, 9, 3, [10, 10, 20, 20]),
    ]
    with pytest.raises(ValueError, match=r"image that is not listed.*category that is not listed"):
        source(folder, with_annotations(*objects))
    for settings in ({"on_invalid": "drop"}, {"report_faults": True}):
        coco = source(folder, with_annotations(*objects), **settings)
        assert len(coco.annotation(2).labels) == 1
        assert any("image that is not listed" in note for note in coco.notes)


def test_null_is_missing_and_names_must_be_names(folder):
    assert source(folder, with_annotations(annotation(1, 9, 3, [10, 10, 20, 20], iscrowd=None))).annotation(
        2
    ).crowd.tolist() == [False]
    images = [{"id": 1, "file_name": "\ud800.png", "width": 4, "height": 4}]
    with pytest.raises(ValueError, match=r"instances_train\.json.*ud800.* no name of a file"):
        source(folder, content(images=images, annotations=[]))


def test_ids_and_missing_fields_of_real_exporters(folder):
    big = 10**30
    images = [{"id": big, "file_name": "5.png", "width": 40, "height": 50}]
    objects = [annotation("a", big, 3, [10, 10, 20, 20], area=None), annotation(None, big, 7, [10, 10, 20, 20])]
    del objects[0]["iscrowd"], objects[0]["area"]
    objects[1]["iscrowd"] = True
    coco = source(folder, content(images=images, annotations=objects))
    assert coco.image_ids == [big]
    assert coco.annotation(0).area.tolist() == [400, 400]
    assert coco.annotation(0).crowd.tolist() == [False, True]


def test_excluded_images_may_have_faults(folder):
    (folder / "train" / "2.png").unlink()
    faulty = with_annotations(annotation(1, 9, 90, [3, 3, 0, 5]), annotation(2, 5, 3, [10, 10, 20, 20]))
    coco = source(folder, faulty, excluded={"9.png", "2.png"}, filter_empty=True)
    rest = coco.without({"9.png", "2.png"})
    assert [rest.name(index) for index in range(len(rest))] == ["5.png"]
    assert rest.notes == ["2 images are excluded"]


def test_all_faults_are_reported_by_image(folder):
    (folder / "train" / "2.png").unlink()
    faulty = with_annotations(
        annotation(1, 9, 90, [3, 3, 0, 5]),
        annotation(2, 5, 3, [10, 10, 20, 20], iscrowd=2),
        annotation(3, 5, 3, [10, 10, 20, 20], [[1, 2]]),
    )
    coco = source(folder, faulty, report_faults=True)
    assert {name: len(faults) for name, faults in coco.faults.items()} == {"9.png": 1, "5.png": 2}
    assert "3 images have no objects" in coco.notes


def test_a_thousand_mutated_files_end_with_one_message(folder):
    """From a seed: replaced and removed values anywhere; the file is read, or rejected by its name."""
    rng, read = random.Random(0), 0
    for number in range(1000):
        mutated = mutate(json.loads(json.dumps(content())), rng)
        message = ""
        try:
            coco = source(folder, mutated, on_invalid=("error", "drop")[number % 2])
        except ValueError as error:
            message = str(error)
        if message:
            assert "instances_train.json" in message
            continue
        read += 1
        for index in range(len(coco)):
            found = coco.annotation(index)
            assert np.isfinite(found.boxes).all()
            assert np.isfinite(found.area).all()
            assert (found.area >= 0).all()
            decode_masks(found.outlines, *found.size, coco.name(index))
    assert 100 < read < 900


ODD = (None, True, "", "x", -1, 0, 1.5, 1e308, 10**40, float("nan"), float("inf"), [], {}, [[]], "\udcff", "a/b", 2**63)


def mutate(value: object, rng: random.Random) -> object:
    """Replace or remove a random value within a JSON, once or twice."""
    for _ in range(rng.randint(1, 2)):
        node = value
        while True:
            keys = list(node) if isinstance(node, dict) else list(range(len(node)))
            key = rng.choice(keys)
            if isinstance(node[key], dict | list) and node[key] and rng.random() < 0.97:
                node = node[key]
                continue
            if rng.random() < 0.3:
                del node[key]
            else:
                node[key] = rng.choice(ODD)
            break
        if not value:
            break
    return value
