import shutil
from pathlib import Path

import pytest
import torch
from torch.utils.data import DataLoader

from conmim_lightning.data.ade20k import PairSource
from conmim_lightning.data.crop import RandomResizedCrop
from conmim_lightning.data.datasets import LabelledDataset, PretrainDataset, SegmentationDataset
from conmim_lightning.data.folder import FolderSource
from conmim_lightning.data.loaders import evaluation_loader
from conmim_lightning.data.sampler import EpochSampler, SampleKey
from conmim_lightning.masking.random_units import RandomUnitMasking
from conmim_lightning.perturbation.draw import PerturbationDraw


def dataset(root: Path, seed=0):
    return PretrainDataset(
        FolderSource(root),
        crop=RandomResizedCrop(32),
        perturbation=PerturbationDraw(),
        masking=RandomUnitMasking(grid_size=4, unit_size=1, ratio=0.5),
        channels=3,
        seed=seed,
    )


def same(one, other):
    return all(torch.equal(a, b) for a, b in zip(one, other, strict=True))


def test_a_sample_is_a_function_of_seed_epoch_and_index(scenes_root: Path):
    root = scenes_root / "folders" / "train"
    assert same(dataset(root)[SampleKey(1, 5)], dataset(root)[SampleKey(1, 5)])
    for other in (dataset(root, seed=1)[SampleKey(1, 5)], dataset(root)[SampleKey(2, 5)]):
        first = dataset(root)[SampleKey(1, 5)]
        assert not torch.equal(first.crop, other.crop)
        assert not torch.equal(first.perturbation, other.perturbation)
        assert not torch.equal(first.mask, other.mask)


@pytest.mark.slow
def test_workers_do_not_matter(scenes_root: Path):
    def batches(workers):
        sampler = EpochSampler(48, seed=0)
        loader = DataLoader(dataset(scenes_root / "folders" / "train"), 8, sampler=sampler, num_workers=workers)
        return list(loader)

    assert all(same(one, other) for one, other in zip(batches(0), batches(2), strict=True))


def test_keeping_decoded_images_changes_nothing(scenes_root: Path):
    plain, keeping = dataset(scenes_root / "folders" / "train"), dataset(scenes_root / "folders" / "train")
    keeping._kept = {}
    for epoch in range(2):
        assert all(same(plain[SampleKey(epoch, i)], keeping[SampleKey(epoch, i)]) for i in range(10))
    assert len(keeping._kept) == 10


def test_devices_do_not_matter(scenes_root: Path):
    data = dataset(scenes_root / "folders" / "train")
    alone = {key.index: data[key] for key in EpochSampler(48, seed=0)}
    for rank in range(2):
        for key in EpochSampler(48, seed=0, rank=rank, num_devices=2):
            assert same(data[key], alone[key.index])


@pytest.fixture
def with_broken(scenes_root: Path, tmp_path: Path) -> Path:
    root = tmp_path / "images"
    shutil.copytree(scenes_root / "folders" / "train", root)
    for path in FolderSource(root).paths[10:13]:
        content = (root / path).read_bytes()
        (root / path).write_bytes(content[: len(content) // 2])
    return root


def test_broken_images_are_replaced_deterministically(with_broken: Path):
    data = dataset(with_broken)
    for index in range(48):
        sample = data[SampleKey(0, index)]
        assert sample.index == index
        assert (sample.read_index != index) == (index in (10, 11, 12))
        assert sample.read_index.item() not in (10, 11, 12)
        assert same(sample, dataset(with_broken)[SampleKey(0, index)])


def test_a_replaced_sample_keeps_its_own_mask(with_broken: Path, scenes_root: Path):
    intact = dataset(scenes_root / "folders" / "train")[SampleKey(0, 10)]
    replaced = dataset(with_broken)[SampleKey(0, 10)]
    assert torch.equal(intact.mask, replaced.mask)
    assert torch.equal(intact.perturbation, replaced.perturbation)


def test_nothing_but_broken_images(tmp_path: Path):
    for number in range(3):
        (tmp_path / f"{number}.jpg").write_bytes(b"no image")
    with pytest.raises(ValueError, match=r"100 images in a row are broken; the first is .*1.jpg: Unidentified"):
        dataset(tmp_path)[SampleKey(0, 1)]


def test_evaluation_sets(scenes_root: Path):
    labelled = LabelledDataset(FolderSource(scenes_root / "folders" / "val", labelled=True), size=32, channels=3)
    first = labelled[3]
    assert first is not None
    image, label, index = first
    assert image.shape == (3, 32, 32)
    assert label == labelled.source.label(3)
    assert index == 3
    pairs = SegmentationDataset(PairSource(scenes_root / "ade20k", "validation"), size=32, channels=3)
    assert pairs[0].image.shape == (3, 32, 32)
    assert pairs[0].class_map.shape == (32, 32)
    assert 0 < pairs[0].class_map.max() <= 6


def test_broken_evaluation_images_are_left_out(with_broken: Path):
    labelled = LabelledDataset(FolderSource(with_broken, labelled=True), size=32, channels=3)
    loader = evaluation_loader(labelled, batch_size=3, num_workers=0, rank=0, num_devices=1)
    seen = [index for batch in loader if batch is not None for index in batch.index.tolist()]
    assert seen == [index for index in range(48) if index not in (10, 11, 12)]
