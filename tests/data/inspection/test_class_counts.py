import numpy as np
import pytest
from coco_files import annotation, source, with_annotations, write_images
from PIL import Image

from conmim_lightning.data.images.decode import Decoder
from conmim_lightning.data.inspection.class_counts import ClassCounts, annotation_faults, class_counts
from conmim_lightning.data.sources.base import Subset
from conmim_lightning.data.sources.class_maps import SegmentationSplits


@pytest.fixture
def folder(tmp_path):
    return write_images(tmp_path)


def test_objects_are_counted_without_crowds(folder):
    coco = source(folder)
    counts = class_counts(coco, Decoder(), 3)
    assert counts.counts.tolist() == [0, 1, 1]
    assert counts.missing(coco.classes, "x") == "'x' has no objects of 1 of 3 classes: 'cat'"
    assert counts.summary(coco.classes, "x") == "objects per class: dog 1, cow 1, cat 0"
    assert class_counts(Subset(coco, np.array([0])), Decoder(), 3).counts.tolist() == [0, 0, 0]


def test_only_crowds_are_nothing_to_train(folder):
    coco = source(folder, with_annotations(annotation(1, 9, 90, [10, 10, 20, 20], iscrowd=1)))
    with pytest.raises(ValueError, match="'x' has no objects of any class: there is nothing to train"):
        class_counts(coco, Decoder(), 3).summary(list(coco.classes), "x")


def test_faults_of_a_subset(folder):
    coco = source(folder, with_annotations(annotation(1, 9, 90, [3, 3, 0, 5])), report_faults=True)
    assert list(annotation_faults(Subset(coco, np.array([2])))) == ["9.png"]


def write_maps(root, *values: int):
    """One image and map per value, of one value each."""
    for number, value in enumerate(values):
        for kind, mode, filled in (("images", "RGB", 9), ("annotations", "L", value)):
            path = root / kind / "training" / f"{number:02d}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.new(mode, (4, 2), filled).save(path)
    return root


def test_pixels_of_a_sample(tmp_path):
    root = write_maps(tmp_path / "set", *[255] * 69, 1)
    splits = SegmentationSplits(num_classes=2, values={"a": 0, "b": 255}, ignored=[1])
    whole = class_counts(splits(str(root), "training", None), Decoder(), 2)
    assert whole.summary(["a", "b"], "x") == "pixels per class in a sample of 64 images: b 100.0%, a 0.0%"
    assert whole.missing(["a", "b"], "x") == "'x' has no pixels of 1 of 2 classes, in a sample of 64 images: 'a'"


def test_a_single_labelled_map_is_enough(tmp_path):
    splits = SegmentationSplits(num_classes=2, first_class=0, ignored=[255])
    root = write_maps(tmp_path / "one", *[255] * 68, 1, 255)
    counts = class_counts(splits(str(root), "training", None), Decoder(), 2)
    assert counts.counts.tolist() == [0, 8]
    none = class_counts(splits(str(write_maps(tmp_path / "none", *[255] * 70)), "training", None), Decoder(), 2)
    assert none.images == 70
    with pytest.raises(ValueError, match="has no pixels of any class: there is nothing to train"):
        none.summary(["a", "b"], "x")


def test_many_classes_are_abbreviated():
    text = ClassCounts(np.arange(1, 21), "objects", 5, 5).summary([str(n) for n in range(20)], "x")
    assert text.startswith("objects per class: 19 20, 18 19, ")
    assert text.endswith("... (8 more classes)")
