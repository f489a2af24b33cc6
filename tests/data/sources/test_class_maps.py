import shutil

import numpy as np
import pytest
import torch
from PIL import Image

from conmim_lightning.data.images.files import BrokenImageError
from conmim_lightning.data.sources.class_maps import ADE20KSplits, SegmentationSource, SegmentationSplits
from conmim_lightning.data.sources.class_values import ClassValues
from conmim_lightning.data.sources.image_map_pairs import ImageMapPairs


@pytest.fixture
def root(tmp_path):
    """Two images of 6 x 4 pixels with maps whose values are 0 to 3, in ADE20K's layout."""
    for split in ("training", "validation"):
        for index in range(2):
            image = tmp_path / "images" / split / f"a{index}.jpg"
            image.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(np.full((4, 6, 3), 60 * index, np.uint8)).save(image)
            values = (np.arange(24).reshape(4, 6) + index) % 4
            target = tmp_path / "annotations" / split / f"a{index}.png"
            target.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(values.astype(np.uint8)).save(target)
    return tmp_path


def write(root, values, mode=None):
    path = root / "annotations" / "training" / "a0.png"
    Image.fromarray(values, mode=mode).save(path)
    return path


def test_ade20ks_values(root):
    source = SegmentationSplits(num_classes=3)(str(root), "training", None)
    assert len(source) == 2
    assert source.classes == ["1", "2", "3"]
    expected = (torch.arange(24).view(4, 6) + 1) % 4 - 1  # 0 is no class, classes count from 1
    assert torch.equal(source.annotation(1, 4, 6), expected.to(torch.int16))


def test_values_of_any_other_collection(root):
    values = np.array([[10, 11, 12, 255, 0, 10]] * 4, np.uint8)
    write(root, values)
    splits = SegmentationSplits(num_classes=3, first_class=10, ignored=[255, 0], class_names=["a", "b", "c"])
    label = splits(str(root), "training", None).annotation(0, 4, 6)
    assert label[0].tolist() == [0, 1, 2, -1, -1, 0]


def test_other_folders_and_suffixes(root):
    shutil.move(root / "images" / "training", root / "photos")
    shutil.move(root / "annotations" / "training", root / "labels")
    for path in list((root / "labels").iterdir()):
        path.rename(path.with_name(f"{path.stem}_mask.png"))
    splits = SegmentationSplits(num_classes=3, images="photos", maps="labels", suffix="_mask.png")
    assert torch.equal(
        splits(str(root), "any", None).annotation(0, 4, 6),
        SegmentationSplits(num_classes=3)(str(root), "validation", None).annotation(0, 4, 6),
    )


@pytest.mark.parametrize("mode", ["palette", "sixteen bits"])
def test_maps_of_other_pixel_modes(root, mode):
    values = np.array([[1, 2, 3, 300, 0, 1]] * 4, np.uint16)
    if mode == "palette":
        values = values.clip(0, 3).astype(np.uint8)
        image = Image.fromarray(values)
        image = image.convert("P")
        image.putpalette([7 * value % 256 for value in range(768)])
        image.putdata(values.flatten().tolist())
        image.save(root / "annotations" / "training" / "a0.png")
        classes = 3
    else:
        write(root, values)
        classes = 300
    label = SegmentationSplits(num_classes=classes)(str(root), "training", None).annotation(0, 4, 6)
    assert label[0].tolist() == (values[0].astype(int) - 1).tolist()


def test_names_from_a_file(root):
    (root / "classes.txt").write_text("wall\nsky\ntree\n")
    splits = SegmentationSplits(num_classes=3, classes_file="classes.txt")
    assert splits(str(root), "training", None).classes == ["wall", "sky", "tree"]


def test_names_of_ade20ks_own_file(root):
    lines = [
        "Idx\tRatio\tTrain\tVal\tName",
        "1\t0.1\t5\t1\twall",
        "2\t.1\t5\t1\tbuilding, edifice",
        "3\t.1\t5\t1\twall",
    ]
    (root / "objectInfo150.txt").write_text("\n".join(lines))
    assert ADE20KSplits(num_classes=3)(str(root), "training", None).classes == ["wall 1", "building", "wall 3"]
    splits = SegmentationSplits(num_classes=3, classes_file="objectInfo150.txt")
    assert splits(str(root), "training", None).classes == ["wall 1", "building", "wall 3"]


def test_a_class_file_of_the_wrong_length(root):
    (root / "classes.txt").write_text("wall\nsky\n")
    splits = SegmentationSplits(num_classes=3, classes_file="classes.txt")
    with pytest.raises(ValueError, match=r"classes\.txt' names 2 classes, but data\.num_classes is 3"):
        splits(str(root), "training", None)
    with pytest.raises(ValueError, match=r"class_names has 1 names, but data\.num_classes is 3"):
        SegmentationSplits(num_classes=3, class_names=["a"])
    with pytest.raises(ValueError, match=r"none\.txt' cannot be read"):
        SegmentationSplits(num_classes=3, classes_file="none.txt")(str(root), "training", None)


def test_a_map_of_another_size(root):
    path = write(root, np.zeros((4, 5), np.uint8))
    with pytest.raises(ValueError, match=rf"{path.name}' is 5 x 4 pixels, its image 'a0\.jpg' 6 x 4"):
        SegmentationSplits(num_classes=3)(str(root), "training", None).annotation(0, 4, 6)


def test_values_outside_the_classes(root):
    path = write(root, np.array([[0, 1, 4, 200, 3, 4]] * 4, np.uint8))
    with pytest.raises(
        ValueError, match=rf"{path.name}' has values that are not classes: 4, 200; classes have 1, 2, 3, ignored"
    ):
        SegmentationSplits(num_classes=3)(str(root), "training", None).annotation(0, 4, 6)
    with pytest.raises(ValueError, match=r"not classes: 0; classes have 1, 2, 3, 4, 5, ..., ignored: 255"):
        SegmentationSplits(num_classes=200, ignored=[255])(str(root), "training", None).annotation(0, 4, 6)


def test_an_ignored_class(root):
    with pytest.raises(ValueError, match=r"ignored holds 2, also the value of a class"):
        SegmentationSplits(num_classes=3, ignored=[2])(str(root), "training", None)


def test_a_coloured_map(root):
    path = write(root, np.zeros((4, 6, 3), np.uint8))
    with pytest.raises(ValueError, match=rf"{path.name}' has the pixel mode RGB; one integer per pixel is needed"):
        SegmentationSplits(num_classes=3)(str(root), "training", None).annotation(0, 4, 6)


def test_an_unreadable_map_makes_the_image_broken(root):
    path = root / "annotations" / "training" / "a0.png"
    path.write_bytes(path.read_bytes()[:40])
    with pytest.raises(BrokenImageError, match=path.name):
        SegmentationSplits(num_classes=3)(str(root), "training", None).annotation(0, 4, 6)


def test_an_image_without_a_map(root):
    (root / "annotations" / "training" / "a1.png").unlink()
    with pytest.raises(ValueError, match=r"1 of 2 images .* 'a1\.jpg'; expected .*a1\.png"):
        SegmentationSplits(num_classes=3)(str(root), "training", None)


def test_a_subset_of_a_collection(root):
    source = SegmentationSource(
        ImageMapPairs(root, "training"), ["a", "b", "c"], ClassValues(3, first_class=1, ignored=[0])
    )
    rest = source.without({"a0.jpg"})
    assert [rest.name(index) for index in range(len(rest))] == ["a1.jpg"]
    assert torch.equal(rest.annotation(0, 4, 6), source.annotation(1, 4, 6))


@pytest.mark.parametrize(
    "fault",
    [lambda root: write(root, np.zeros((4, 5), np.uint8)), lambda root: write(root, np.full((4, 6), 99, np.uint8))],
)
def test_an_invalid_map_may_make_its_image_broken(root, fault):
    path = fault(root)
    source = SegmentationSplits(num_classes=3, on_invalid="drop")(str(root), "training", None)
    with pytest.raises(BrokenImageError, match=path.name):
        source.annotation(0, 4, 6)
    assert source.annotation(1, 4, 6).shape == (4, 6)
    with pytest.raises(ValueError, match="on_invalid must be error or drop, got 'ignore'"):
        SegmentationSplits(num_classes=3, on_invalid="ignore")


def test_excluded_images_need_no_map(root):
    (root / "annotations" / "training" / "a1.png").unlink()
    splits = SegmentationSplits(num_classes=3)
    splits.excluded = {"a1.jpg"}
    assert len(splits(str(root), "training", None).without({"a1.jpg"})) == 1
