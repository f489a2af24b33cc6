import numpy as np
import pytest
from PIL import Image

from conmim_lightning.data.sources.folder import FolderSource
from conmim_lightning.data.sources.subsets import check_subset, hold_out, labels_of, per_class


@pytest.fixture
def source(tmp_path):
    """Classes a, b, c of 2, 4 and 6 images."""
    for name, count in {"a": 2, "b": 4, "c": 6}.items():
        (tmp_path / name).mkdir()
        for index in range(count):
            Image.new("RGB", (4, 3)).save(tmp_path / name / f"{index}.png")
    return FolderSource(tmp_path, labelled=True)


def test_held_out_images_are_not_trained_on(source):
    rest, held = hold_out(source, fraction=0.5, seed=1)
    assert sorted([*rest.indices, *held.indices]) == list(range(12))
    assert np.bincount(labels_of(held)).tolist() == [1, 2, 3]
    assert np.bincount(labels_of(rest)).tolist() == [1, 2, 3]
    assert hold_out(source, fraction=0.5, seed=1)[1].indices.tolist() == held.indices.tolist()
    assert hold_out(source, fraction=0.5, seed=2)[1].indices.tolist() != held.indices.tolist()


def test_a_class_of_one_image_cannot_be_held_out(tmp_path):
    (tmp_path / "a").mkdir()
    Image.new("RGB", (4, 3)).save(tmp_path / "a" / "0.png")
    with pytest.raises(ValueError, match="class 'a' has one image, which cannot be held out"):
        hold_out(FolderSource(tmp_path, labelled=True), fraction=0.5)


def test_subsets_take_at_least_one_image_per_class(source):
    assert np.bincount(labels_of(per_class(source, fraction=0.01))).tolist() == [1, 1, 1]
    assert np.bincount(labels_of(per_class(source, count=3))).tolist() == [2, 3, 3]
    with pytest.raises(ValueError, match="needs labels"):
        per_class(FolderSource(source.root), count=1)


@pytest.mark.parametrize(("fraction", "count"), [(None, None), (0.5, 1), (0.0, None), (1.5, None), (None, 0)])
def test_bad_subsets(fraction, count):
    with pytest.raises(ValueError, match="subset"):
        check_subset(fraction, count)
