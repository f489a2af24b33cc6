import pytest
from coco_files import annotation, content, source, with_annotations, write_images

FAULTS = {
    "no list": ({"images": []}, "not a COCO JSON: it needs lists images, annotations and categories"),
    "missing key": (content(images=[{"id": 1, "file_name": "x"}]), "entry 0 of images lacks width, height"),
    "two images of an id": (content(images=content()["images"] + content()["images"][:1]), "images have the id 5"),
    "id of text": (
        content(images=[{"id": "a", "file_name": "x", "width": 4, "height": 4}]),
        "has the id 'a', an integer is needed",
    ),
    "no width": (
        content(images=[{"id": 1, "file_name": "x", "width": None, "height": 4}]),
        "has the width None, an integer is needed",
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
        r"annotation 4 of '5\.png': bbox .* is outside the",
    ),
    "box left of the image": (with_annotations(annotation(4, 5, 3, [-5, 1, 20, 2])), "outside the image of 40 x 50"),
    "empty box": (
        with_annotations(annotation(4, 5, 3, [3, 1, 0, 2])),
        r"1 invalid boxes .*on_invalid_box=drop.*: .* is empty",
    ),
    "box of three numbers": (with_annotations(annotation(4, 5, 3, [3, 1, 2])), "is not left, top, width, height"),
    "box with NaN": (
        with_annotations(annotation(4, 5, 3, [3, 1, 2, float("nan")])),
        "is not left, top, width, height",
    ),
    "no outline": (
        with_annotations(annotation(4, 5, 3, [3, 1, 2, 2], None)),
        r"have no segmentation \(data.source.masks=false",
    ),
}


@pytest.fixture
def folder(tmp_path):
    return write_images(tmp_path)


@pytest.mark.parametrize("fault", FAULTS)
def test_faults_are_reported(folder, fault):
    json_content, message = FAULTS[fault]
    with pytest.raises(ValueError, match=rf"instances_train\.json.*{message}"):
        source(folder, json_content)


def test_invalid_boxes_may_be_dropped(folder):
    json_content = with_annotations(
        annotation(1, 9, 90, [10, 10, 20, 20]),
        annotation(2, 9, 3, [3, 3, 0, 5]),
        annotation(3, 5, 3, [3, 3, 90, 5]),
    )
    coco = source(folder, json_content, on_invalid_box="drop")
    assert coco.annotation(2).labels.tolist() == [2]
    assert coco.notes[0].startswith("2 invalid boxes are left out: annotation 2 of '9.png'")
    with pytest.raises(ValueError, match="on_invalid_box must be error or drop, got 'skip'"):
        source(folder, on_invalid_box="skip")
