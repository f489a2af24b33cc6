import json

import pytest
from coco_files import annotation, content, source, with_annotations, write_images

from conmim_lightning.data.sources.coco import CocoSource, CocoSplits


@pytest.fixture
def folder(tmp_path):
    return write_images(tmp_path)


def test_images_classes_and_objects(folder):
    coco = source(folder)
    assert [coco.name(index) for index in range(3)] == ["5.png", "2.png", "9.png"]
    assert list(coco.classes) == ["cat", "dog", "cow"]  # in the order of their ids
    assert coco.category_ids == [3, 7, 90]
    last = coco.annotation(2)
    assert last.labels.tolist() == [2, 1]
    assert last.boxes.tolist() == [[10, 10, 30, 30]] * 2
    assert coco.annotation(0).crowd.tolist() == [True]
    assert coco.annotation(1).boxes.shape == (0, 4)


def test_only_training_leaves_out_images_without_objects(folder):
    source(folder)
    (folder / "annotations" / "instances_val.json").write_text(json.dumps(content()))
    splits = CocoSplits()
    train = splits(str(folder), "train", None)
    assert [train.name(index) for index in range(len(train))] == ["5.png", "9.png"]
    assert train.annotation(1).labels.tolist() == [2, 1]
    assert "1 images without objects are left out" in train.notes
    assert len(splits(str(folder), "val", train.classes)) == 3


def test_categories_are_counted(folder):
    source(folder)
    assert CocoSplits().count_classes(str(folder), "train") == 3
    with pytest.raises(ValueError, match=r"instances_none\.json' do not exist; there are train, choose"):
        CocoSplits().count_classes(str(folder), "none")


def test_other_categories_than_in_training(folder):
    source(folder)
    changed = content()
    changed["categories"][0]["name"] = "wolf"
    (folder / "annotations" / "instances_val.json").write_text(json.dumps(changed))
    splits = CocoSplits()
    with pytest.raises(ValueError, match=r"instances_val\.json' has other categories .* 'wolf' instead of 'dog'"):
        splits(str(folder), "val", splits(str(folder), "train", None).classes)


def test_only_boxes(folder):
    coco = source(folder, with_annotations(annotation(4, 5, 3, [3, 1, 2, 2], None)), masks=False)
    assert coco.annotation(0).outlines == [None]


def test_a_missing_file(folder):
    (folder / "train" / "2.png").unlink()
    with pytest.raises(ValueError, match=r"1 of 3 images .* are not in .*train', such as '2\.png'"):
        source(folder)


def test_no_json(folder):
    with pytest.raises(ValueError, match=r"annotations .*none\.json' cannot be read"):
        CocoSource(folder / "train", folder / "none.json")
