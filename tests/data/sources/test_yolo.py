import numpy as np
import pytest
from PIL import Image

from conmim_lightning.data.images.files import read_file
from conmim_lightning.data.sources.yolo import YoloSplits

NAMES = "names:\n  0: cat\n  1: dog\n"


@pytest.fixture
def root(tmp_path):
    """Two images of 40 x 50 pixels per split, one without objects."""
    for split in ("train", "val"):
        for kind in ("images", "labels"):
            (tmp_path / kind / split / "deep").mkdir(parents=True)
        for name in ("a", "deep/b"):
            Image.fromarray(np.zeros((50, 40, 3), np.uint8)).save(tmp_path / "images" / split / f"{name}.png")
        (tmp_path / "labels" / split / "a.txt").write_text("1 0.5 0.5 0.5 0.2\n\n0 0.25 0.1 0.5 0.2\n")
    (tmp_path / "data.yaml").write_text(NAMES)
    return tmp_path


def write(root, text: str) -> None:
    (root / "labels" / "train" / "a.txt").write_text(text)


def test_boxes_are_fractions_of_the_image(root):
    splits = YoloSplits(filter_empty=False)
    source = splits(str(root), "train", None)
    assert source.classes == ["cat", "dog"]
    assert [source.name(index) for index in range(len(source))] == ["a.png", "deep/b.png"]
    found = source.annotation(0)
    assert found.boxes.tolist() == [[10, 20, 30, 30], [0, 0, 20, 10]]
    assert found.labels.tolist() == [1, 0]
    assert found.size == (50, 40)
    assert source.annotation(1).boxes.shape == (0, 4)
    assert len(YoloSplits()(str(root), "train", None)) == 1, "training without images without objects"
    assert splits.count_classes(str(root), "train") == 2


def test_polygons(root):
    write(root, "0 0.25 0.2 0.75 0.2 0.75 0.6 0.25 0.6\n")
    found = YoloSplits(masks=True)(str(root), "train", None).annotation(0)
    assert found.boxes.tolist() == [[10, 10, 30, 30]]
    assert found.outlines == [[[10, 10, 30, 10, 30, 30, 10, 30]]]
    write(root, "0 0.5 0.5 0.5 0.2\n")
    with pytest.raises(ValueError, match="it has no segmentation"):
        YoloSplits(masks=True)(str(root), "train", None)


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("2 0.5 0.5 0.5 0.2", "a.txt:1: the class is a number from 0 to 1: '2 0.5"),
        ("cat 0.5 0.5 0.5 0.2", "the class is a number"),
        ("0 0.5 0.5 0.5", "a line has centre and size of a box, or at least three points"),
        ("0 0.5 0.5 0.5 0.2 0.9", "at least three points"),
        ("0 a b c d", "at least three points"),
        ("0 20 25 20 10", "fractions of the image, from 0 to 1"),
        ("0 nan 0.5 0.5 0.2", "fractions of the image"),
        ("0 0.5 0.5 0 0.2", "is empty"),
        ("0 0.9 0.5 0.5 0.2", "is outside the image of 40 x 50"),
    ],
)
def test_invalid_lines(root, line, message):
    write(root, f"{line}\n1 0.5 0.5 0.5 0.2\n")
    with pytest.raises(ValueError, match=message):
        YoloSplits()(str(root), "train", None)
    kept = YoloSplits(on_invalid="drop")(str(root), "train", None)
    assert kept.annotation(0).labels.tolist() == [1]
    assert kept.notes[0].startswith("1 invalid annotations: ")


def test_names(root):
    (root / "data.yaml").write_text("names: [cat, dog]\n")
    assert YoloSplits().count_classes(str(root), "train") == 2
    assert YoloSplits(class_names=["a", "b", "c"]).count_classes(str(root), "train") == 3
    for text in ("names: 3", "- x", "names: {1: a}", "x: [", ""):
        (root / "data.yaml").write_text(text)
        with pytest.raises(ValueError, match=r"data\.yaml"):
            YoloSplits()(str(root), "train", None)
    with pytest.raises(ValueError, match="class_names"):
        YoloSplits(names=None)(str(root), "train", None)


def test_names_are_data(root):
    (root / "data.yaml").write_text("names: !!python/object/apply:os.system ['touch hacked']\n")
    with pytest.raises(ValueError, match="cannot be read"):
        YoloSplits()(str(root), "train", None)


def test_another_layout(root):
    (root / "train").mkdir()
    (root / "images" / "train").rename(root / "train" / "images")
    (root / "labels" / "train").rename(root / "train" / "labels")
    source = YoloSplits(images="{split}/images", annotations="{split}/labels")(str(root), "train", None)
    assert len(source) == 1


def test_a_broken_image_is_reported_when_it_is_read(root):
    (root / "images" / "train" / "deep" / "b.png").write_bytes(b"nothing")
    assert len(YoloSplits(filter_empty=False)(str(root), "train", None)) == 2


def test_sizes_come_from_the_start_of_a_file(root, monkeypatch):
    """But for formats that may have their orientation at the end, and headers that are longer than the start."""
    exif = Image.Exif()
    exif[0x0112] = 6
    noise = Image.fromarray(np.random.default_rng(0).integers(0, 255, (300, 400, 3), dtype=np.uint8))
    folder = root / "images" / "train"
    noise.save(folder / "c.jpg", quality=100, exif=exif)
    noise.save(folder / "d.jpg", quality=100, exif=exif, comment=bytes(60_000), icc_profile=bytes(60_000))
    noise.save(folder / "e.png", exif=exif)
    lengths = []

    def record(path, max_bytes=None, first=-1):
        content = read_file(path, max_bytes, first=first)
        lengths.append(len(content))
        return content

    monkeypatch.setattr("conmim_lightning.data.sources.yolo.read_file", record)
    source = YoloSplits(filter_empty=False)(str(root), "train", None)
    assert [source.annotation(index).size for index in range(1, 4)] == [(400, 300)] * 3
    assert len(lengths) == 5 + 4, "all but c.jpg are read whole"
    assert lengths.count(1 << 16) == 3


def test_the_splits_and_layouts_that_exist_are_named(root):
    with pytest.raises(ValueError, match=r"images/valid' does not exist; there are train, val, choose one with data"):
        YoloSplits(annotations="labels")(str(root), "valid", None)


def test_files_that_are_passed_over_are_counted(root):
    for name in ("c.heic", "d.tga", ".e.png"):
        (root / "images" / "train" / name).write_bytes(b"x")
    source = YoloSplits(filter_empty=False)(str(root), "train", None)
    assert any("1 .heic, 1 .tga" in note for note in source.notes)
    assert any("hidden or system files" in note for note in source.notes)
    assert len(YoloSplits(filter_empty=False, include_hidden=True)(str(root), "train", None)) == 3
    (root / "data.yaml").write_text("names: [0, 1]\n")
    assert YoloSplits()(str(root), "train", None).classes == ["0", "1"]
