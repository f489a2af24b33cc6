import shutil
from pathlib import Path

import pytest
from labelled_folder import COUNTS, labels, module, write_labelled

from conmim_lightning.data.sources.splits import ManifestSplits


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return write_labelled(tmp_path)


def test_lists_give_the_same_as_folders(root):
    lists = {split: f"{split}.txt" for split in COUNTS}
    data = module(root, source=ManifestSplits(lists=lists))
    data.setup()
    assert labels(data.val_dataloader()) == {0: 3, 1: 3, 2: 3}
    with pytest.raises(ValueError, match="no list for split 'extra'"):
        module(root, source=ManifestSplits(lists=lists), val="extra").setup()


def test_a_trained_classifier_is_tested_without_training_images(root):
    shutil.rmtree(root / "train")
    data = module(root)
    data.classes = ["a", "b", "c"]
    data.setup("test")
    assert labels(data.test_dataloader()) == {0: 3, 1: 3, 2: 3}


def test_images_without_labels(root):
    data = module(root, predict_root=str(root / "val"))
    data.setup("predict")
    assert labels(data.predict_dataloader()) == {-1: 9}


def test_a_test_opens_only_its_own_split(root):
    for split in ("train", "val"):
        shutil.rmtree(root / split)
    data = module(root, test="test")
    data.classes = ["a", "b", "c"]
    data.setup("test")
    assert labels(data.test_dataloader()) == {0: 2, 1: 2, 2: 2}


def test_classes_are_counted_unless_their_number_is_given(root):
    data = module(root, num_classes=None)
    assert data.num_classes == 3
    data.setup()
    assert data.sample_shapes == ((3, 16, 16), (3,))


def test_another_number_of_classes(root):
    with pytest.raises(ValueError, match=r"split 'train' of .* has 3 classes, but data.num_classes is 5"):
        module(root, num_classes=5).setup()


def test_an_unknown_class_in_val(root):
    (root / "val" / "a").rename(root / "val" / "z")
    with pytest.raises(ValueError, match=r"has classes \['z'\] that are not among \['a', 'b', 'c'\]"):
        module(root).setup()


def test_a_label_outside_the_range(root):
    (root / "val.txt").write_text("val/a/0.png 0\nval/b/0.png 7\nval/c/0.png 2\n")
    with pytest.raises(ValueError, match="label 7; allowed are 0 to 2"):
        module(root, source=ManifestSplits(lists={"train": "train.txt", "val": "val.txt"})).setup()


def test_an_empty_class_folder(root):
    (root / "train" / "d").mkdir()
    with pytest.raises(ValueError, match=r"class folders without an image in .*train': d"):
        module(root, num_classes=4).setup()


def test_the_test_split_is_that_of_validation_unless_it_is_given(root):
    assert module(root, val="test").split_names["test"] == "test"
    assert module(root, val="test", test="val").split_names["test"] == "val"


def test_a_missing_split_names_the_others(root):
    (root / "val").rename(root / "valid")
    with pytest.raises(ValueError, match=r"has no folder 'val'; there are test, train, valid, choose one"):
        module(root).setup()


def test_exclusion_holds_for_every_split(root):
    """A file for all splits, or one by split."""
    (root / "exclude.tsv").write_text("a/0.png\nb/1.png\tbroken\n")
    everywhere = module(root, exclude=str(root / "exclude.tsv"))
    everywhere.setup()
    sizes = {split: len(everywhere.sources[split]) for split in ("train", "val", "test")}
    assert sizes["val"] == 9 - 2
    assert "val: 2 images are excluded" in everywhere.summary()
    assert "do not belong to any image" not in everywhere.summary()
    one = module(root, exclude={"val": str(root / "exclude.tsv")})
    one.setup()
    assert len(one.sources["val"]) == 7
    assert len(one.sources["train"]) == sizes["train"] + 2
    with pytest.raises(ValueError, match=r"a file by split: train, val, test; got \['valid'\]"):
        module(root, exclude={"valid": "x"})


def test_single_files_are_predicted(root):
    data = module(root, predict_root=[str(root / "val/a/0.png"), str(root / "val/b/*.png")])
    data.setup("predict")
    assert labels(data.predict_dataloader()) == {-1: 4}
    with pytest.raises(ValueError, match=r"none\.png' does not exist"):
        module(root, predict_root=str(root / "none.png"))
