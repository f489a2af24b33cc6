from pathlib import Path

import pytest
import torch
from pretrain_data import module

from conmim_lightning.data.datamodules.pretrain import PretrainDataModule


def test_batches_are_small_and_whole(scenes_root: Path):
    data = module(scenes_root / "folders" / "train")
    data.setup()
    batches = list(data.train_dataloader())
    assert len(batches) == 6
    assert batches[0].crop.shape == (8, 3, 32, 32)
    assert batches[0].crop.dtype == torch.uint8
    assert batches[0].mask.shape == (8, 4, 4)
    two_float_views = 2 * batches[0].crop.numel() * 4
    assert sum(field.numel() * field.element_size() for field in batches[0][:4]) < two_float_views / 4


def test_probes(scenes_root: Path):
    data = module(
        scenes_root / "folders" / "train",
        labelled_root=str(scenes_root / "folders"),
        class_map_root=str(scenes_root / "ade20k"),
        num_map_classes=6,
    )
    data.setup()
    counts = {(probe, role): sum(len(batch.index) for batch in loader) for probe, role, loader in data.probe_loaders()}
    assert counts == {
        ("knn", "reference"): 48,
        ("knn", "query"): 24,
        ("dense", "reference"): 48,
        ("dense", "query"): 24,
    }


def test_an_unlabelled_tree_has_no_probes(scenes_root: Path):
    data = module(scenes_root / "coco" / "train")
    data.setup()
    assert list(data.probe_loaders()) == []
    assert data.held_out_crops(3).crop.shape == (3, 3, 32, 32)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"root": "/nowhere"}, "'/nowhere' does not exist"),
        ({"batch_size": 1}, "at least 2.*got 1"),
        ({"mean": [0.5]}, "3 entries"),
        ({"num_workers": -1}, "got -1"),
        ({"dense_images": 0}, "dense_images .*got 0"),
        ({"class_map_root": "."}, "num_map_classes"),
    ],
)
def test_bad_arguments(scenes_root: Path, changes, message):
    with pytest.raises(ValueError, match=message):
        module(**({"root": scenes_root / "folders" / "train"} | changes))


def test_classes_that_differ(scenes_root: Path, tmp_path: Path):
    for split, names in (("train", "ab"), ("val", "ac")):
        for name in names:
            (tmp_path / split / name).mkdir(parents=True)
            (tmp_path / split / name / "1.jpg").write_bytes(b"")
    with pytest.raises(ValueError, match=r"\['c'\] that are not among \['a', 'b'\]"):
        module(scenes_root / "folders" / "train", labelled_root=str(tmp_path)).setup()


def test_the_defaults_are_the_published_recipe(scenes_root: Path):
    data = PretrainDataModule(str(scenes_root / "folders" / "train"), batch_size=8, num_workers=0)
    data.setup()
    batch = next(iter(data.train_dataloader()))
    assert data.sample_shapes == ((3, 224, 224), (14, 14))
    assert batch.mask.flatten(1).sum(1).tolist() == [4 * 37] * 8, "three quarters of the 49 units of 2 x 2 patches"
    assert (data.mean, data.std) == ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
    assert (batch.perturbation[:, 0] == batch.perturbation[0, 0]).all(), "the student's view is weak"
    assert len(batch.perturbation[:, 1].unique(dim=0)) > 1
