from collections import Counter
from pathlib import Path

import pytest
from PIL import Image

from conmim_lightning.data.crop import RandomResizedCrop
from conmim_lightning.data.decode import Decoder
from conmim_lightning.data.imagenet import wordnet_ids
from conmim_lightning.data.modules.labelled import LabelledDataModule
from conmim_lightning.data.parts import FolderParts, ImageNetParts, ManifestParts
from conmim_lightning.data.transforms.classification import EvaluationTransform, TrainTransform

COUNTS = {"train": 10, "val": 3, "test": 2}


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """Classes a, b, c; ten training, three validation and two test images each, and lists of them."""
    for part, count in COUNTS.items():
        lines = []
        for label, name in enumerate("abc"):
            (tmp_path / part / name).mkdir(parents=True)
            for number in range(count):
                Image.new("RGB", (40, 30), (80 * label, 0, 0)).save(tmp_path / part / name / f"{number}.png")
                lines.append(f"{part}/{name}/{number}.png {label}")
        (tmp_path / f"{part}.txt").write_text("\n".join(lines))
    return tmp_path


def module(root: Path, **changes) -> LabelledDataModule:
    arguments = {
        "root": str(root),
        "source": FolderParts(),
        "num_classes": 3,
        "decoder": Decoder(),
        "train_transform": TrainTransform(crop=RandomResizedCrop(16), mean=(0.5,) * 3),
        "evaluation_transform": EvaluationTransform(16),
        "mean": [0.5] * 3,
        "std": [0.25] * 3,
        "batch_size": 4,
        "seed": 0,
        "num_workers": 0,
    }
    return LabelledDataModule(**(arguments | changes))


def labels(loader) -> Counter:
    return Counter(label for batch in loader for label in batch.label.tolist())


def test_parts(root):
    data = module(root, test="test")
    data.setup()
    assert data.sample_shapes == ((3, 16, 16), (3,))
    assert list(data.classes) == ["a", "b", "c"]
    assert sum(labels(data.train_dataloader()).values()) == 28  # the last, incomplete batch is left out
    assert labels(data.val_dataloader()) == {0: 3, 1: 3, 2: 3}
    assert labels(data.test_dataloader()) == {0: 2, 1: 2, 2: 2}
    assert labels(data.evaluation("train")) == {0: 10, 1: 10, 2: 10}
    assert data.name("test", 5) == "c/1.png"
    assert data.class_counts().tolist() == [10, 10, 10]
    assert "val: 9 images" in data.summary()


def test_lists_give_the_same_as_folders(root):
    lists = {part: f"{part}.txt" for part in COUNTS}
    data = module(root, source=ManifestParts(lists=lists))
    data.setup()
    assert labels(data.val_dataloader()) == {0: 3, 1: 3, 2: 3}
    with pytest.raises(ValueError, match="no list for part 'extra'"):
        module(root, source=ManifestParts(lists=lists), val="extra").setup()


def test_held_out_images_come_from_train_alone(root):
    data = module(root, held_out_share=0.2, subset_count=5)
    data.setup()
    assert data.class_counts().tolist() == [4, 4, 4]
    names = {part: {data.name(part, index) for index in range(len(data.sources[part]))} for part in ("train", "val")}
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
    assert data.collection != other.collection


def test_to_test_a_known_classifier_no_training_images_are_needed(root):
    import shutil

    shutil.rmtree(root / "train")
    data = module(root)
    data.classes = ["a", "b", "c"]
    data.setup("test")
    assert labels(data.test_dataloader()) == {0: 3, 1: 3, 2: 3}


def test_images_without_labels(root):
    data = module(root, predict_root=str(root / "val"))
    data.setup("predict")
    assert labels(data.predict_dataloader()) == {-1: 9}


def test_a_test_looks_for_its_own_part_alone(root):
    import shutil

    for part in ("train", "val"):
        shutil.rmtree(root / part)
    data = module(root, test="test")
    data.classes = ["a", "b", "c"]
    data.setup("test")
    assert labels(data.test_dataloader()) == {0: 2, 1: 2, 2: 2}


def test_a_class_that_is_excluded_whole(root):
    (root / "exclude.tsv").write_text("".join(f"a/{number}.png\n" for number in range(10)))
    with pytest.raises(ValueError, match=r"has no image of 1 of 3 classes: 'a'"):
        module(root, exclude=str(root / "exclude.tsv")).setup()


def test_imagenet_keeps_its_order(root):
    for part in ("train", "val"):
        for old, new in zip("abc", ("n02129604", "n01440764", "n15075141"), strict=True):
            (root / part / old).rename(root / part / new)
    data = module(root, source=ImageNetParts(), num_classes=1000, allow_missing_classes=True)
    with pytest.raises(ValueError, match="has no image of 997 of 1000 classes: 'n01443537'"):
        data.setup()
    source = ImageNetParts()(str(root), "val", None)
    assert sorted({source.label(index) for index in range(9)}) == [0, 292, 999]
    assert list(source.classes) == list(wordnet_ids())


def test_an_empty_class_folder(root):
    (root / "train" / "d").mkdir()
    with pytest.raises(ValueError, match=r"class folders without an image in .*train': d"):
        module(root, num_classes=4).setup()


def test_another_number_of_classes(root):
    with pytest.raises(ValueError, match=r"part 'train' of .* has 3 classes, but data.num_classes is 5"):
        module(root, num_classes=5).setup()


def test_an_unknown_class_in_val(root):
    (root / "val" / "a").rename(root / "val" / "z")
    with pytest.raises(ValueError, match=r"has classes \['z'\] that are not among \['a', 'b', 'c'\]"):
        module(root).setup()


def test_a_class_that_val_lacks(root):
    import shutil

    shutil.rmtree(root / "val" / "b")
    with pytest.raises(
        ValueError, match=r"part 'val' of .* has no image of 1 of 3 classes: 'b'; data.allow_missing_classes"
    ):
        module(root).setup()
    data = module(root, allow_missing_classes=True)
    data.setup()
    assert labels(data.val_dataloader()) == {0: 3, 2: 3}


def test_a_label_outside_the_range(root):
    (root / "val.txt").write_text("val/a/0.png 0\nval/b/0.png 7\nval/c/0.png 2\n")
    with pytest.raises(ValueError, match="label 7; allowed are 0 to 2"):
        module(root, source=ManifestParts(lists={"train": "train.txt", "val": "val.txt"})).setup()


def test_a_list_without_labels(root):
    (root / "train.txt").write_text("train/a/0.png\ntrain/b/0.png\n")
    with pytest.raises(ValueError, match="has no labels; a line is a path"):
        module(root, source=ManifestParts(lists={"train": "train.txt", "val": "val.txt"})).setup()


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"held_out_share": 1.0}, "held_out_share must lie in"),
        ({"subset_share": 2.0}, "share must lie in"),
        ({"num_classes": 1}, "num_classes must be at least 2"),
        ({"batch_size": 0}, "batch_size must be at least 1"),
        ({"mean": [0.5]}, "mean and std need 3 entries"),
        ({"root": "/nowhere"}, "/nowhere"),
        ({"batch_size": 64}, "30 images from .* do not fill one batch of 64"),
        ({"val": "nowhere"}, "nowhere"),
        ({"held_out_share": 0.5, "subset_count": 1}, "nothing can be held out"),
    ],
)
def test_bad_settings(root, changes, told):
    with pytest.raises(ValueError, match=told):
        module(changes.pop("root", root), **changes).setup()
