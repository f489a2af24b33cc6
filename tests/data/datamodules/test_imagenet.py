from collections import Counter
from pathlib import Path

import pytest
from imagenet_folder import IDS, write_imagenet
from pretrain_data import arguments

from conmim_lightning.data.datamodules.imagenet import ImageNetDataModule
from conmim_lightning.data.transforms.crop import RandomResizedCrop


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return write_imagenet(tmp_path)


def module(root: Path, **changes):
    data = ImageNetDataModule(str(root), **arguments(**({"crop": RandomResizedCrop(16), "batch_size": 4} | changes)))
    data.setup()
    return data


@pytest.mark.parametrize("lists", [{}, {"train_list": "train_map.txt", "val_list": "val_map.txt"}])
def test_folders_and_lists_give_the_same_labels(root: Path, lists):
    data = module(root, **lists)
    by_name = {data.source.name(index): data.source.label(index) for index in range(len(data.source))}
    assert len(by_name) == 30
    assert {by_name[f"{name}/{name}_0.JPEG"] for name in IDS} == {0, 292, 999}
    counts = {(probe, role): sum(len(b.index) for b in loader) for probe, role, loader in data.probe_loaders()}
    assert counts == {("knn", "reference"): 30, ("knn", "query"): 6}
    assert len(data.source.classes) == 1000


@pytest.mark.parametrize(
    ("subset", "per_class"), [({"subset_fraction": 0.3}, 3), ({"subset_fraction": 0.01}, 1), ({"subset_count": 4}, 4)]
)
def test_subsets_per_class(root: Path, subset, per_class):
    names = []
    for seed in (0, 0, 1):
        source = module(root, batch_size=2, subset_seed=seed, **subset).source
        assert Counter(source.label(index) for index in range(len(source))) == {
            0: per_class,
            292: per_class,
            999: per_class,
        }
        names.append([source.name(index) for index in range(len(source))])
    assert names[0] == names[1]
    assert names[0] != names[2]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"subset_fraction": 2.0}, "got 2.0"),
        ({"subset_count": 0}, "got 0"),
        ({"subset_count": 3, "subset_fraction": 0.5}, "not both"),
        ({"train_list": "nowhere.txt"}, "nowhere.txt' does not exist"),
    ],
)
def test_bad_arguments(root: Path, changes, message):
    with pytest.raises(ValueError, match=message):
        module(root, **changes)


def test_folders_that_are_not_classes(root: Path):
    (root / "train" / "n02129604").rename(root / "train" / "tiger")
    with pytest.raises(ValueError, match=r"has classes \['tiger'\] that are not among"):
        module(root)
