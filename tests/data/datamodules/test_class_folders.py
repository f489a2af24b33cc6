from collections import Counter

import numpy as np
import pytest
from PIL import Image
from pretrain_data import arguments

from conmim_lightning.data.datamodules.class_folders import ClassFoldersDataModule
from conmim_lightning.data.transforms.crop import RandomResizedCrop


@pytest.fixture
def root(tmp_path):
    for name in ("cat", "dog"):
        for number in range(10):
            path = tmp_path / "train" / name / f"{number}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(np.full((20, 20, 3), 10 * number, np.uint8)).save(path)
    return tmp_path


def module(root, **changes):
    own = {"crop": RandomResizedCrop(16), "batch_size": 4} | changes
    data = ClassFoldersDataModule(str(root), **arguments(**own))
    data.setup()
    return data


def test_all_images_are_trained_on_and_a_tenth_is_classified(root):
    data = module(root)
    assert len(data.source) == 20
    names = {
        role: [dataset.source.name(index) for index in range(len(dataset.source))]
        for role, dataset in data.probes.datasets["knn"].items()
    }
    assert len(names["query"]) == 2
    assert not set(names["query"]) & set(names["reference"])
    assert {name.split("/")[0] for name in names["query"]} == {"cat", "dog"}
    assert data.probes.datasets["knn"]["query"].source.classes == ["cat", "dog"]


def test_a_subset_per_class(root):
    data = module(root, subset_count=3, batch_size=2)
    assert Counter(data.source.name(index).split("/")[0] for index in range(len(data.source))) == {"cat": 3, "dog": 3}
    assert len(data.probes.datasets["knn"]["reference"].source) == 18, "the probe's images stay"
    others = module(root, subset_count=3, batch_size=2, subset_seed=1)
    assert data.fingerprint != others.fingerprint


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"held_out_fraction": 0.0}, r"held_out_fraction must lie in \(0, 1\), got 0.0"),
        ({"subset_count": 0}, "count be at least 1, got 0"),
    ],
)
def test_mistakes(root, changes, message):
    with pytest.raises(ValueError, match=message):
        module(root, **changes)
