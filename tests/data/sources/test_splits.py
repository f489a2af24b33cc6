from pathlib import Path

import pytest
from labelled_folder import COUNTS, write_labelled

from conmim_lightning.data.sources.splits import FolderSplits, ImageNetSplits, ManifestSplits


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return write_labelled(tmp_path)


def test_a_list_without_labels(root):
    (root / "train.txt").write_text("train/a/0.png\ntrain/b/0.png\n")
    with pytest.raises(ValueError, match="has no labels; a line is a path"):
        ManifestSplits(lists={"train": "train.txt"})(str(root), "train", None)


def test_folders_and_lists_agree(root):
    by_folder = FolderSplits()
    by_list = ManifestSplits(lists={split: f"{split}.txt" for split in COUNTS})
    assert by_folder.count_classes(str(root), "train") == by_list.count_classes(str(root), "train") == 3
    one, other = by_folder(str(root), "val", None), by_list(str(root), "val", None)
    assert (
        [one.label(index) for index in range(9)]
        == [other.label(index) for index in range(9)]
        == [0] * 3 + [1] * 3 + [2] * 3
    )


def test_a_split_uses_the_classes_of_training(root):
    (root / "val" / "a").rename(root / "val" / "z")
    with pytest.raises(ValueError, match=r"has classes \['z'\] that are not among \['a', 'b', 'c'\]"):
        FolderSplits()(str(root), "val", ["a", "b", "c"])


def test_one_class_is_not_enough(root):
    with pytest.raises(ValueError, match="holds 0 class folders; at least 2 are needed"):
        FolderSplits().count_classes(str(root), "val/a")
    with pytest.raises(ValueError, match="has no folder 'nowhere'; there are test, train, val, choose one with"):
        FolderSplits().count_classes(str(root), "nowhere")


def test_imagenet_has_its_thousand_classes(root):
    assert ImageNetSplits().count_classes(str(root), "train") == 1000
