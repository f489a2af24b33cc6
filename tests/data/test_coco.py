"""COCO JSON: numbers with gaps, crowds, empty images, outlines of both kinds, and what is wrong with a file."""

import json
import warnings
from functools import partial

import numpy as np
import pytest
import torch
from PIL import Image
from pycocotools import mask as codec

from conmim_lightning.data.coco import CocoParts, CocoSource
from conmim_lightning.data.decode import Decoder
from conmim_lightning.data.detected import DetectedImages
from conmim_lightning.data.modules.dense import DenseDataModule
from conmim_lightning.data.outlines import masks_of, run_lengths_of
from conmim_lightning.data.transforms.detection import FitSquare, ScaleJitter
from conmim_lightning.models.detector import Found

SQUARE = [[10, 10, 30, 10, 30, 30, 10, 30]]


def note(number: int, image: int, category: int, box: list, outline=SQUARE, **more):
    return {
        "id": number, "image_id": image, "category_id": category, "bbox": box, "segmentation": outline, "area": 400.0,
        "iscrowd": 0, **more,
    }  # fmt: skip


def content(**changes):
    counts = [0, 50 * 10, 50 * 30]  # the first ten columns
    found = {
        "images": [{"id": n, "file_name": f"{n}.png", "width": 40, "height": 50} for n in (5, 2, 9)],
        "categories": [{"id": 7, "name": "dog"}, {"id": 3, "name": "cat"}, {"id": 90, "name": "cow"}],
        "annotations": [
            note(1, 9, 90, [10, 10, 20, 20]),
            note(2, 5, 3, [0, 0, 10, 50], {"size": [50, 40], "counts": counts}, iscrowd=1, area=500),
            note(3, 9, 7, [10, 10, 20, 20]),
        ],
    }
    return found | changes


@pytest.fixture
def folder(tmp_path):
    for part in ("train", "val"):
        (tmp_path / part).mkdir()
        for number in (2, 5, 9):
            pixels = np.random.default_rng(number).integers(0, 255, (50, 40, 3), np.uint8)
            Image.fromarray(pixels).save(tmp_path / part / f"{number}.png")
    return tmp_path


def source(folder, found=None, **settings):
    path = folder / "annotations" / "instances_train.json"
    path.parent.mkdir(exist_ok=True)
    path.write_text(json.dumps(content() if found is None else found))
    return CocoSource(folder / "train", path, **settings)


def test_what_is_known(folder):
    found = source(folder)
    assert [found.name(index) for index in range(3)] == ["5.png", "2.png", "9.png"]
    assert list(found.classes) == ["cat", "dog", "cow"]  # in the order of their numbers
    assert found.category_ids == [3, 7, 90]
    last = found.annotation(2)
    assert last["labels"].tolist() == [2, 1]
    assert last["boxes"].tolist() == [[10, 10, 30, 30]] * 2
    assert found.annotation(0)["crowd"].tolist() == [True]
    assert found.annotation(1)["boxes"].shape == (0, 4)
    assert found.object_counts().tolist() == [0, 1, 1]


def test_images_without_objects_are_left_out_of_training_alone(folder):
    source(folder)
    (folder / "annotations" / "instances_val.json").write_text(json.dumps(content()))
    parts = CocoParts()
    train = parts(str(folder), "train", None)
    assert [train.name(index) for index in range(len(train))] == ["5.png", "9.png"]
    assert train.annotation(1)["labels"].tolist() == [2, 1]
    assert "1 images without objects are left out" in train.notes
    assert len(parts(str(folder), "val", train.classes)) == 3


def test_other_categories_than_were_trained(folder):
    source(folder)
    changed = content()
    changed["categories"][0]["name"] = "wolf"
    (folder / "annotations" / "instances_val.json").write_text(json.dumps(changed))
    parts = CocoParts()
    with pytest.raises(ValueError, match=r"instances_val\.json' has other categories .* 'wolf' instead of 'dog'"):
        parts(str(folder), "val", parts(str(folder), "train", None).classes)


def test_outlines_are_those_of_pycocotools():
    polygons = [[10.5, 10, 30, 12, 25, 33, 8, 30], [1, 1, 5, 1, 5, 5]]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # pycocotools under numpy 2
        expected = codec.decode(codec.merge(codec.frPyObjects(polygons, 50, 40))).astype(bool)
    packed = codec.encode(np.asfortranarray(expected.astype(np.uint8)))
    packed = {"size": packed["size"], "counts": packed["counts"].decode()}
    found = masks_of([polygons, packed, {"size": [50, 40], "counts": [0, 500, 1500]}], 50, 40, "x.jpg")
    assert np.array_equal(found[0], expected)
    assert np.array_equal(found[1], expected)
    assert found[2][:, :10].all()
    assert not found[2][:, 10:].any()
    assert run_lengths_of(expected) == packed


@pytest.mark.parametrize(
    ("outline", "told"),
    [
        ([[1, 2, 3, 4]], "at least three points"),
        ([], "at least three points"),
        ([[1, 2, 3, 4, 5, "x"]], "numbers of pixels in or near the image"),
        ([[1, 2, 3, 4, 5, 1e9]], "numbers of pixels in or near the image"),
        ({"size": [50, 40], "counts": [-5, 2005]}, ""),
        ({"size": [40, 50], "counts": [2000]}, r"run lengths are of \[40, 50\], .* are \[50, 40\]"),
        ({"size": [50, 40], "counts": [20]}, "cover 20 of 2000 pixels"),
        ("abc", "list of polygons or run lengths, got abc"),
    ],
)
def test_bad_outlines(outline, told):
    with pytest.raises(ValueError, match=rf"object 1 of 'x\.jpg': .*{told}"):
        masks_of([SQUARE, outline], 50, 40, "x.jpg")


def annotations(*notes):
    return content(annotations=list(notes))


FAULTS = {
    "no list": ({"images": []}, "no COCO JSON: it needs lists images, annotations and categories"),
    "missing key": (content(images=[{"id": 1, "file_name": "x"}]), "number 0 of images lacks width, height"),
    "two images of a number": (content(images=content()["images"] + content()["images"][:1]), "images have the id 5"),
    "id of text": (
        content(images=[{"id": "a", "file_name": "x", "width": 4, "height": 4}]),
        "has the id 'a', needed is a",
    ),
    "no width": (
        content(images=[{"id": 1, "file_name": "x", "width": None, "height": 4}]),
        "has the width None, needed",
    ),
    "box of text": (annotations(note(4, 5, 3, "abcd")), "has the bbox 'abcd', needed is a list"),  # type: ignore[arg-type]
    "no categories": (content(categories=[], annotations=[]), "has no categories"),
    "missing image": (
        annotations(note(4, 77, 3, [1, 1, 2, 2])),
        r"1 annotations name an image that is not listed: annotation 4 \(image_id 77\)",
    ),
    "unknown category": (
        annotations(note(4, 5, 8, [1, 1, 2, 2])),
        r"name a category that is not listed: annotation 4 \(category_id 8\)",
    ),
    "box outside": (annotations(note(4, 5, 3, [30, 1, 20, 2])), r"annotation 4 of '5\.png': bbox .* is outside the"),
    "box left of the image": (annotations(note(4, 5, 3, [-5, 1, 20, 2])), "outside the image of 40 x 50"),
    "empty box": (annotations(note(4, 5, 3, [3, 1, 0, 2])), r"1 unfit boxes .*unfit=drop.*: .* is empty"),
    "box of three numbers": (annotations(note(4, 5, 3, [3, 1, 2])), "is not left, top, width, height"),
    "box of no numbers": (annotations(note(4, 5, 3, [3, 1, 2, float("nan")])), "is not left, top, width, height"),
    "no outline": (annotations(note(4, 5, 3, [3, 1, 2, 2], None)), r"have no segmentation \(data.source.masks=false"),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_faults_are_told(folder, fault):
    found, told = FAULTS[fault]
    with pytest.raises(ValueError, match=rf"instances_train\.json.*{told}"):
        source(folder, found)


def test_unfit_boxes_may_be_dropped(folder):
    found = annotations(note(1, 9, 90, [10, 10, 20, 20]), note(2, 9, 3, [3, 3, 0, 5]), note(3, 5, 3, [3, 3, 90, 5]))
    read = source(folder, found, unfit="drop")
    assert read.annotation(2)["labels"].tolist() == [2]
    assert read.notes[0].startswith("2 unfit boxes are left out: annotation 2 of '9.png'")
    with pytest.raises(ValueError, match="unfit must be refuse or drop, got 'skip'"):
        source(folder, unfit="skip")


def test_boxes_alone(folder):
    read = source(folder, annotations(note(4, 5, 3, [3, 1, 2, 2], None)), masks=False)
    assert read.annotation(0)["outlines"] == [None]


def test_a_missing_file(folder):
    (folder / "train" / "2.png").unlink()
    with pytest.raises(ValueError, match=r"1 of 3 images .* are not in .*train', such as '2\.png'"):
        source(folder)


def test_no_json(folder):
    with pytest.raises(ValueError, match=r"annotations .*none\.json' cannot be read"):
        CocoSource(folder / "train", folder / "none.json")


def images_of(read, **settings):
    return DetectedImages(
        read,
        transform=ScaleJitter(size=64, mean=[0.5] * 3),
        evaluation_transform=FitSquare(size=64, mean=[0.5] * 3),
        **settings,
    )


def images(read, **settings):
    return images_of(read, decoder=Decoder(), **settings)


def test_samples_to_evaluate(folder):
    made = images(source(folder))
    batch = made.collate([made[index] for index in range(3)])
    assert batch.image.shape == (3, 3, 64, 64)
    assert batch.size.tolist() == [[64, 51]] * 3
    assert batch.original.tolist() == [[50, 40]] * 3
    assert batch.image[0, :, :, 51:].unique().tolist() == [128]
    assert [len(objects.boxes) for objects in batch.objects] == [1, 0, 2]
    assert batch.objects[0].crowd.tolist() == [True]
    assert batch.objects[2].masks.shape == (2, 50, 40)
    assert batch.objects[2].boxes.tolist() == [[10, 10, 30, 30]] * 2


def test_samples_to_train_on(folder):
    made = images(source(folder, skip_empty=True), train=True)
    batch = made.collate([made[index] for index in range(2)])
    assert batch.image.shape == (2, 3, 64, 64)
    assert len(batch.objects[0].boxes) == 0  # a crowd is nothing to learn from
    assert all(objects.masks.shape[1:] == (64, 64) for objects in batch.objects)


def test_an_image_of_another_size_than_annotated(folder):
    Image.new("RGB", (30, 30)).save(folder / "train" / "9.png")
    made = images(source(folder))
    with pytest.raises(ValueError, match=r"'9\.png' is 30 x 30 pixels, its annotation says 40 x 50"):
        made[2]


def test_an_image_that_cannot_be_read(folder):
    (folder / "train" / "9.png").write_bytes(b"nothing")
    made = images(source(folder))
    sample = made[2]
    assert sample.broken.startswith("9.png\t")
    assert len(sample.objects.boxes) == 0
    replaced = images(source(folder, skip_empty=True), train=True)[1]
    assert replaced.broken.startswith("9.png\t")
    assert torch.equal(replaced.index, torch.tensor(1))


def test_numbers_of_categories_are_those_that_were_trained(folder):
    """In results of images without annotations, too, whose names stand for their numbers."""
    source(folder)
    (folder / "annotations" / "instances_val.json").write_text(json.dumps(content()))
    (folder / "exclude.tsv").write_text("nothing.png\n")
    data = DenseDataModule(
        root=str(folder), source=CocoParts(), images=partial(images_of, masks=True), num_classes=3, size=64,
        decoder=Decoder(), mean=[0.5] * 3, std=[0.5] * 3, batch_size=1, seed=0, subset_count=1, num_workers=0,
        predict_root=str(folder / "val"), exclude=str(folder / "exclude.tsv"),
    )  # fmt: skip
    data.setup("fit")
    data.setup("predict")
    assert data.category_ids == [3, 7, 90]
    found = Found(torch.tensor([[1.0, 2.0, 5.0, 9.0]]), torch.tensor([0.5]), torch.tensor([2]), torch.zeros(0, 9, 9))
    assert data.results_of(0, found, testing=False) == [
        {"image_id": "2.png", "category_id": 90, "bbox": [1.0, 2.0, 4.0, 7.0], "score": 0.5, "category": "cow"}
    ]
    data.setup("test")
    assert data.results_of(2, found, testing=True)[0]["image_id"] == 9
