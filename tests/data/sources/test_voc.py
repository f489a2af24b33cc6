import pytest
from image_tree import touch

from conmim_lightning.data.sources.voc import VocSplits


def annotation(*objects: str, size: str = "<width>40</width><height>50</height>") -> str:
    return f"<annotation><filename>x</filename><size>{size}</size>{''.join(objects)}</annotation>"


def box(name: str, *corners: object, more: str = "") -> str:
    sides = zip(("xmin", "ymin", "xmax", "ymax"), corners, strict=False)
    inner = "".join(f"<{side}>{corner}</{side}>" for side, corner in sides)
    return f"<object><name>{name}</name>{more}<bndbox>{inner}</bndbox></object>"


DOG, CAT = box("dog", 11, 21, 30, 40), box("cat", 1, 1, 40, 50, more="<difficult>1</difficult>")


@pytest.fixture
def root(tmp_path):
    touch(tmp_path, "JPEGImages/a.jpg", "JPEGImages/b.png", "JPEGImages/c.jpg")
    for folder in ("Annotations", "ImageSets/Main"):
        (tmp_path / folder).mkdir(parents=True)
    for name, content in (("a", annotation(DOG, CAT)), ("b", annotation()), ("c", annotation(DOG))):
        (tmp_path / "Annotations" / f"{name}.xml").write_text(content)
    (tmp_path / "ImageSets" / "Main" / "train.txt").write_text("a\nb  1\n\n")
    (tmp_path / "ImageSets" / "Main" / "val.txt").write_text("c\n")
    return tmp_path


def test_corners_are_pixels_from_one(root):
    source = VocSplits(filter_empty=False)(str(root), "train", None)
    assert source.classes == ["cat", "dog"]
    assert [source.name(index) for index in range(len(source))] == ["a.jpg", "b.png"]
    found = source.annotation(0)
    assert found.boxes.tolist() == [[10, 20, 30, 40], [0, 0, 40, 50]]
    assert found.labels.tolist() == [1, 0]
    assert found.crowd.tolist() == [False, True], "difficult objects are not judged"
    assert VocSplits().count_classes(str(root), "train") == 2


def test_classes_are_those_of_training(root):
    val = VocSplits()(str(root), "val", ["cat", "dog"])
    assert val.annotation(0).labels.tolist() == [1]
    with pytest.raises(ValueError, match="other categories than were trained: 3 instead of 2"):
        VocSplits()(str(root), "val", ["cat", "cow"])
    assert VocSplits(class_names=["dog", "cat", "cow"])(str(root), "train", None).classes == ["dog", "cat", "cow"]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (annotation(box("dog", 5, 5, 5)), "the box of 'dog' lacks xmin, ymin, xmax, ymax"),
        (annotation(box("dog", 5, 5, "x", 9)), "not numbers"),
        (annotation(box("", 5, 5, 9, 9)), "an object has no name"),
        (annotation(box("dog", 9, 9, 5, 5)), "is empty"),
        (annotation(box("dog", 5, 5, 90, 90)), "outside the image of 40 x 50"),
        (annotation(box("dog", "nan", 5, 9, 9)), "is not left, top, width, height"),
        (annotation(box("dog", 5, 5, 9, 9, more="<difficult>yes</difficult>")), "difficult is 'yes'"),
    ],
)
def test_invalid_objects(root, content, message):
    (root / "Annotations" / "b.xml").write_text(content)
    with pytest.raises(ValueError, match=message):
        VocSplits()(str(root), "train", None)
    splits = VocSplits(on_invalid="drop", filter_empty=False)
    source = splits(str(root), "train", None)
    assert list(source.classes) == ["cat", "dog"], "no class of an invalid object"
    assert splits.count_classes(str(root), "train") == 2
    assert [len(source.annotation(index).labels) for index in range(2)] == [2, 0]


@pytest.mark.parametrize(
    "content",
    [
        "",
        "<annotation>",
        "no xml",
        '<?xml version="1.0" encoding="klingon"?><a/>',
        '<!DOCTYPE a [<!ENTITY b "b">' + "".join(
            f'<!ENTITY {chr(98 + n)} "{f"&{chr(97 + n)};" * 20}">' for n in range(1, 9)
        ) + "]><a>&j;</a>",
        annotation(DOG, size="<width>x</width>"),
    ],
)  # fmt: skip
def test_damaged_files(root, content):
    (root / "Annotations" / "b.xml").write_text(content)
    with pytest.raises(ValueError, match=r"1 invalid annotations: .*Annotations/b\.xml' cannot be read"):
        VocSplits()(str(root), "train", None)
    splits = VocSplits()
    splits.excluded = {"b.png"}
    assert len(splits(str(root), "train", None).without({"b.png"})) == 1
    dropping = VocSplits(on_invalid="drop", filter_empty=False)(str(root), "train", None)
    assert len(dropping) == 1, "the size of an image without a readable file is unknown"
    splits.report_faults, splits.excluded = True, ()
    assert list(splits(str(root), "train", None).faults) == ["b.png"]


def test_missing_files(root):
    with pytest.raises(ValueError, match=r"test\.txt' cannot be read"):
        VocSplits()(str(root), "test", None)
    (root / "JPEGImages" / "a.jpg").unlink()
    with pytest.raises(ValueError, match=r"1 of 1 images .* are not in"):
        VocSplits()(str(root), "train", None)
    with pytest.raises(ValueError, match="masks must be false"):
        VocSplits(masks=True)


def test_lists_of_one_class_and_names_with_spaces(root):
    (root / "JPEGImages" / "a.jpg").rename(root / "JPEGImages" / "my a.jpg")
    (root / "Annotations" / "a.xml").rename(root / "Annotations" / "my a.xml")
    (root / "ImageSets" / "Main" / "train.txt").write_text("my a -1\nb  1\n")
    source = VocSplits(filter_empty=False)(str(root), "train", None)
    assert [source.name(index) for index in range(2)] == ["my a.jpg", "b.png"]


def test_no_objects_at_all(root):
    (root / "Annotations" / "a.xml").write_text(annotation())
    with pytest.raises(ValueError, match="'train' have no objects, hence there are no classes"):
        VocSplits().count_classes(str(root), "train")
