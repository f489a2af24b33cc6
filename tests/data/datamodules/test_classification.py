import shutil
from pathlib import Path

import pytest
from labelled_folder import labels, module, write_labelled

from conmim_lightning.data.sources.imagenet import wordnet_ids
from conmim_lightning.data.sources.splits import ImageNetSplits


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return write_labelled(tmp_path)


def test_splits(root):
    data = module(root, test="test")
    data.setup()
    assert data.sample_shapes == ((3, 16, 16), (3,))
    assert list(data.classes) == ["a", "b", "c"]
    assert sum(labels(data.train_dataloader()).values()) == 28  # the last, incomplete batch is dropped
    assert labels(data.val_dataloader()) == {0: 3, 1: 3, 2: 3}
    assert labels(data.test_dataloader()) == {0: 2, 1: 2, 2: 2}
    assert labels(data.evaluation_dataloader("train")) == {0: 10, 1: 10, 2: 10}
    assert data.image_name("test", 5) == "c/1.png"
    assert data.class_counts().tolist() == [10, 10, 10]
    assert "val: 9 images" in data.summary()


def test_held_out_images_are_training_images(root):
    data = module(root, held_out_fraction=0.2, subset_count=5)
    data.setup()
    assert data.class_counts().tolist() == [4, 4, 4]
    names = {
        split: {data.image_name(split, index) for index in range(len(data.sources[split]))}
        for split in ("train", "val")
    }
    assert not names["train"] & names["val"]
    assert data.sources["val"].root.endswith("train")
    assert labels(data.test_dataloader()) == {0: 3, 1: 3, 2: 3}


@pytest.mark.parametrize("seed", [0, 1])
def test_few_labels(root, seed):
    data = module(root, subset_count=2, subset_seed=seed)
    data.setup()
    assert data.class_counts().tolist() == [2, 2, 2]
    other = module(root, subset_count=2, subset_seed=seed + 5)
    other.setup()
    assert data.fingerprint != other.fingerprint


def test_a_class_that_is_excluded_completely(root):
    (root / "exclude.tsv").write_text("".join(f"a/{index}.png\n" for index in range(10)))
    with pytest.raises(ValueError, match=r"has no image of 1 of 3 classes: 'a'"):
        module(root, exclude=str(root / "exclude.tsv")).setup()


def test_imagenet_keeps_its_order(root):
    for split in ("train", "val"):
        for old, new in zip("abc", ("n02129604", "n01440764", "n15075141"), strict=True):
            (root / split / old).rename(root / split / new)
    data = module(root, source=ImageNetSplits(), num_classes=1000, allow_missing_classes=True)
    with pytest.raises(ValueError, match="has no image of 997 of 1000 classes: 'n01443537'"):
        data.setup()
    source = ImageNetSplits()(str(root), "val", None)
    assert sorted({source.label(index) for index in range(9)}) == [0, 292, 999]
    assert list(source.classes) == list(wordnet_ids())


def test_a_class_missing_in_val(root):
    shutil.rmtree(root / "val" / "b")
    with pytest.raises(
        ValueError, match=r"split 'val' of .* has no image of 1 of 3 classes: 'b'; data.allow_missing_classes"
    ):
        module(root).setup()
    data = module(root, allow_missing_classes=True)
    data.setup()
    assert labels(data.val_dataloader()) == {0: 3, 2: 3}


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"held_out_fraction": 1.0}, "held_out_fraction must lie in"),
        ({"subset_fraction": 2.0}, "fraction must lie in"),
        ({"num_classes": 1}, "num_classes must be at least 2"),
        ({"batch_size": 0}, "batch_size must be at least 1"),
        ({"mean": [0.5]}, "mean and std need 3 entries"),
        ({"root": "/nowhere"}, "/nowhere"),
        ({"batch_size": 64}, "30 images from .* do not fill one batch of 64"),
        ({"val": "nowhere"}, "nowhere"),
        ({"held_out_fraction": 0.5, "subset_count": 1}, "cannot be held out"),
    ],
)
def test_bad_settings(root, changes, message):
    with pytest.raises(ValueError, match=message):
        module(changes.pop("root", root), **changes).setup()
