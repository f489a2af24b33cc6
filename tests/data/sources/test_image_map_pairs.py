import numpy as np
import pytest
from image_tree import touch
from PIL import Image

from conmim_lightning.data.sources.image_map_pairs import ImageMapPairs


def test_pairs(tmp_path):
    root = touch(tmp_path, "images/training/a.jpg", "annotations/training/a.png")
    pairs = ImageMapPairs(root, "training")
    assert pairs.images.path(0) == tmp_path / "images/training/a.jpg"
    assert pairs.map_path(0) == tmp_path / "annotations/training/a.png"
    (tmp_path / "images/training/b.jpg").touch()
    with pytest.raises(ValueError, match=r"1 of 2 images .* first is 'b.jpg'; expected .*b.png"):
        ImageMapPairs(root, "training")


def test_images_without_a_map_are_left_out_on_request(tmp_path):
    root = touch(tmp_path, "images/train/a.jpg", "images/train/b.jpg", "annotations/train/b.png")
    pairs = ImageMapPairs(root, "train", missing="drop")
    assert [pairs.images.name(index) for index in range(len(pairs))] == ["b.jpg"]
    assert pairs.map_path(0).name == "b.png"
    assert any("1 of 2 images" in note and "are left out" in note for note in pairs.images.notes)
    (root / "annotations/train/b.png").unlink()
    with pytest.raises(ValueError, match="2 of 2 images"):
        ImageMapPairs(root, "train", missing="drop")


def test_cityscapes_names(tmp_path):
    root = touch(tmp_path, "images/train/aachen/x_leftImg8bit.png", "maps/train/aachen/x_gtFine_labelIds.png")
    names = {"suffix": "_gtFine_labelIds.png", "image_suffix": "_leftImg8bit"}
    assert ImageMapPairs(root, "train", maps="maps/{split}", **names).map_path(0).is_file()


def test_hidden_images_need_no_map(tmp_path):
    root = touch(tmp_path, "images/train/a.jpg", "images/train/._a.jpg", "annotations/train/a.png")
    assert len(ImageMapPairs(root, "train")) == 1
    with pytest.raises(ValueError, match=r"'\._a\.jpg'"):
        ImageMapPairs(root, "train", include_hidden=True)


def test_the_splits_that_exist_are_named(tmp_path):
    root = touch(tmp_path, "images/training/a.jpg", "images/validation/a.jpg", "annotations/training/a.png")
    with pytest.raises(ValueError, match=r"train' does not exist; there are training, validation, choose one with"):
        ImageMapPairs(root, "train")


def test_maps_as_arrays(tmp_path):
    (tmp_path / "images" / "train").mkdir(parents=True)
    (tmp_path / "annotations" / "train").mkdir(parents=True)
    Image.new("RGB", (6, 4)).save(tmp_path / "images" / "train" / "a.png")
    np.save(tmp_path / "annotations" / "train" / "a.npy", np.ones((4, 6), np.uint8))
    assert ImageMapPairs(tmp_path, "train", suffix=".npy").map_path(0).is_file()
