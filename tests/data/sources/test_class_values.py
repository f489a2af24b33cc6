import numpy as np
import pytest
from PIL import Image

from conmim_lightning.data.images.files import BrokenImageError
from conmim_lightning.data.sources.class_tables import PASCAL_VOC_COLORS
from conmim_lightning.data.sources.class_values import ClassValues

BINARY = {"background": 0, "object": 255}


def saved(folder, values, suffix=".png"):
    path = folder / f"map{suffix}"
    if suffix == ".npy":
        np.save(path, values)
    else:
        Image.fromarray(values).save(path)
    return path


def test_binary_masks_of_0_and_255(tmp_path):
    values = np.array([[0, 255], [255, 255]], np.uint8)
    path = saved(tmp_path, values)
    with pytest.raises(ValueError, match=r"data\.source\.values=\{background: 0, object: 255\}"):
        ClassValues(2, ignored=[]).classes(path)
    named = ClassValues(2, values=BINARY)
    assert named.names == ["background", "object"]
    assert named.ignored == [], "255 is a class"
    assert named.classes(path).tolist() == [[0, 1], [1, 1]]
    assert np.array_equal(named.encode(named.classes(path)), values)


@pytest.mark.parametrize(
    ("suffix", "dtype"), [(".png", np.uint8), (".png", np.uint16), (".npy", np.int64), (".tif", np.uint8)]
)
def test_values_in_any_order(tmp_path, suffix, dtype):
    path = saved(tmp_path, np.array([[7, 3, 9], [255, 3, 7]], dtype), suffix)
    assert ClassValues(3, values={"a": 9, "b": 7, "c": 3}).classes(path).tolist() == [[1, 2, 0], [-1, 2, 1]]


def test_boolean_arrays(tmp_path):
    path = saved(tmp_path, np.array([[True, False]]), ".npy")
    assert ClassValues(2).classes(path).tolist() == [[1, 0]]


@pytest.mark.parametrize("palette", [False, True])
def test_colours(tmp_path, palette):
    """Also of a palette map, whose indices differ from the classes."""
    pixels = np.array([[[128, 64, 128], [70, 130, 180]], [[0, 0, 0], [128, 64, 128]]], np.uint8)
    image = Image.fromarray(pixels)
    (image.quantize(3) if palette else image).save(tmp_path / "map.png")
    colors = {"road": [128, 64, 128], "sky": [70, 130, 180]}
    with pytest.raises(ValueError, match=r"not classes: \[0, 0, 0\]; .*ignored"):
        ClassValues(2, colors=colors).classes(tmp_path / "map.png")
    values = ClassValues(2, colors=colors, ignored=[[0, 0, 0]])
    assert values.classes(tmp_path / "map.png").tolist() == [[0, 1], [-1, 0]]
    assert values.encode(np.array([[1, 0]])).tolist() == [[[70, 130, 180], [128, 64, 128]]]


def test_tables_by_name(tmp_path):
    chair = PASCAL_VOC_COLORS["chair"]
    path = saved(tmp_path, np.array([[chair, (224, 224, 192)]], np.uint8))
    assert ClassValues(21, colors="pascal_voc").classes(path).tolist() == [[9, -1]]
    ids = saved(tmp_path, np.array([[7, 33, 0, 3]], np.uint8), ".tif")
    assert ClassValues(19, values="cityscapes").classes(ids).tolist() == [[0, 18, -1, -1]]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"values": BINARY, "colors": {"a": [0, 0, 0], "b": [1, 1, 1]}}, "exclude each other"),
        ({"values": {"a": 1}}, "names 1 classes, data.num_classes is 2"),
        ({"values": {"a": 1, "b": 1}}, "gives 1 to more than one class"),
        ({"values": {"a": 1, "b": "2"}}, "one whole number per class, got '2'"),
        ({"values": BINARY, "ignored": [255]}, "holds 255, also the value of a class"),
        ({"values": "kitti"}, "one of cityscapes, pascal_voc, got 'kitti'"),
        ({"colors": {"a": [0, 0], "b": [1, 1, 1]}}, r"from 0 to 255, got \[0, 0\]"),
        ({"colors": {"a": [0, 0, 256], "b": [1, 1, 1]}}, "256"),
        ({"colors": {"a": [1, 1, 1], "b": [1, 1, 1]}}, r"gives \[1, 1, 1\] to more"),
        ({"ignored": [1]}, "holds 1, also"),
    ],
)
def test_contradictions(arguments, message):
    with pytest.raises(ValueError, match=message):
        ClassValues(2, **arguments)


def test_255_is_ignored_unless_it_is_a_class():
    assert ClassValues(2).ignored == [255]
    assert ClassValues(256).ignored == []


@pytest.mark.parametrize("values", [np.zeros((2, 2, 3), np.uint8), np.zeros((2, 2), np.float32), np.zeros(4, np.uint8)])
def test_arrays_that_are_no_maps(tmp_path, values):
    with pytest.raises(ValueError, match=r"\(H, W\) integers are needed"):
        ClassValues(2).classes(saved(tmp_path, values, ".npy"))


def test_objects_in_arrays_are_not_loaded(tmp_path):
    np.save(tmp_path / "map.npy", np.array([[{"a": 1}]], object), allow_pickle=True)
    with pytest.raises(BrokenImageError, match="allow_pickle"):
        ClassValues(2).classes(tmp_path / "map.npy")


def test_binary_masks_whose_objects_would_be_ignored():
    counts = np.array([50, 0])
    assert "data.source.values={background: 0, object: 255}" in ClassValues(2).binary_mistake(counts, 9)
    assert ClassValues(2).ignores_by_default
    assert not ClassValues(2, ignored=[255]).ignores_by_default
    for others in ((np.array([50, 1]), 9), (counts, 0), (np.array([0, 0]), 9)):
        assert ClassValues(2).binary_mistake(*others) == ""
    assert ClassValues(2, values=BINARY).binary_mistake(counts, 9) == ""
