import shutil
from pathlib import Path

import pytest
import torch
from torch.utils.data import DataLoader

from conmim_lightning.data.datasets.pretrain import PretrainDataset
from conmim_lightning.data.images.decode import Decoder
from conmim_lightning.data.samplers.epoch import EpochSampler, SampleKey
from conmim_lightning.data.sources.folder import FolderSource
from conmim_lightning.data.transforms.crop import RandomResizedCrop
from conmim_lightning.masking.random_units import RandomUnitMasking
from conmim_lightning.perturbation.draw import PerturbationDraw


def dataset(root: Path, seed=0, **changes):
    return PretrainDataset(
        FolderSource(root),
        decoder=Decoder(),
        crop=RandomResizedCrop(32),
        perturbation=PerturbationDraw(),
        masking=RandomUnitMasking(grid_size=4, unit_size=1, ratio=0.5),
        seed=seed,
        **changes,
    )


def same(one, other):
    return one.broken == other.broken and all(torch.equal(one[field], other[field]) for field in range(4))


def test_a_sample_is_a_function_of_seed_epoch_and_index(scenes_root: Path):
    root = scenes_root / "folders" / "train"
    assert same(dataset(root)[SampleKey(1, 5)], dataset(root)[SampleKey(1, 5)])
    for other in (dataset(root, seed=1)[SampleKey(1, 5)], dataset(root)[SampleKey(2, 5)]):
        first = dataset(root)[SampleKey(1, 5)]
        assert not torch.equal(first.crop, other.crop)
        assert not torch.equal(first.perturbation, other.perturbation)
        assert not torch.equal(first.mask, other.mask)


@pytest.mark.slow
def test_hidden_patches_are_counted_by_the_collation(scenes_root: Path):
    samples = [dataset(scenes_root)[SampleKey(0, index)] for index in range(3)]
    samples[1].mask[:] = False
    samples[2].mask[:] = True
    assert dataset(scenes_root).collate(samples[:2]).max_hidden == 8
    assert dataset(scenes_root).collate(samples).max_hidden == 16


def test_workers_do_not_matter(scenes_root: Path):
    def batches(workers):
        sampler = EpochSampler(48, seed=0)
        loader = DataLoader(dataset(scenes_root / "folders" / "train"), 8, sampler=sampler, num_workers=workers)
        return list(loader)

    assert all(same(one, other) for one, other in zip(batches(0), batches(2), strict=True))


def test_caching_decoded_images_changes_nothing(scenes_root: Path):
    root = scenes_root / "folders" / "train"
    uncached, cached = dataset(root), dataset(root, cache_decoded=True)
    for epoch in range(2):
        assert all(same(uncached[SampleKey(epoch, i)], cached[SampleKey(epoch, i)]) for i in range(10))
    assert cached._cache is not None
    assert len(cached._cache) == 10


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
    for path in map(FolderSource(root).path, (10, 11, 12)):
        content = path.read_bytes()
        path.write_bytes(content[: len(content) // 2])
    return root


def test_broken_images_are_replaced_deterministically(with_broken: Path):
    data = dataset(with_broken)
    for index in range(48):
        sample = data[SampleKey(0, index)]
        assert sample.index == index
        names = [line.split("\t")[0] for line in sample.broken.split("\n")]
        assert names[0] == (data.source.name(index) if index in (10, 11, 12) else "")
        assert "truncated" in sample.broken or index not in (10, 11, 12)
        assert same(sample, dataset(with_broken)[SampleKey(0, index)])


def test_a_replaced_sample_keeps_its_own_mask(with_broken: Path, scenes_root: Path):
    intact = dataset(scenes_root / "folders" / "train")[SampleKey(0, 10)]
    replaced = dataset(with_broken)[SampleKey(0, 10)]
    assert torch.equal(intact.mask, replaced.mask)
    assert torch.equal(intact.perturbation, replaced.perturbation)


def test_only_broken_images(tmp_path: Path):
    for index in range(3):
        (tmp_path / f"{index}.jpg").write_bytes(b"no image")
    with pytest.raises(ValueError, match=r"100 consecutive images are broken; the first is 1.jpg\tUnidentified"):
        dataset(tmp_path)[SampleKey(0, 1)]
