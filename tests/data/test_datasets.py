import shutil
from pathlib import Path

import pytest
import torch
from PIL import Image
from torch.utils.data import DataLoader

from conmim_lightning.data.ade20k import PairSource
from conmim_lightning.data.crop import RandomResizedCrop
from conmim_lightning.data.datasets import LabelledDataset, PretrainDataset, SegmentationDataset
from conmim_lightning.data.decode import Decoder
from conmim_lightning.data.folder import FolderSource
from conmim_lightning.data.loaders import evaluation_loader
from conmim_lightning.data.sampler import EpochSampler, SampleKey
from conmim_lightning.masking.random_units import RandomUnitMasking
from conmim_lightning.perturbation.draw import PerturbationDraw


def dataset(root: Path, seed=0):
    return PretrainDataset(
        FolderSource(root),
        decoder=Decoder(),
        crop=RandomResizedCrop(32),
        perturbation=PerturbationDraw(),
        masking=RandomUnitMasking(grid_size=4, unit_size=1, ratio=0.5),
        seed=seed,
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
def test_hidden_patches_are_counted_before_a_batch_leaves(scenes_root: Path):
    samples = [dataset(scenes_root)[SampleKey(0, index)] for index in range(3)]
    samples[1].mask[:] = False
    samples[2].mask[:] = True
    assert PretrainDataset.collate(samples[:2]).most_hidden == 8
    assert PretrainDataset.collate(samples).most_hidden == 16


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


def test_nothing_but_broken_images(tmp_path: Path):
    for number in range(3):
        (tmp_path / f"{number}.jpg").write_bytes(b"no image")
    with pytest.raises(ValueError, match=r"100 images in a row are broken; the first is 1.jpg\tUnidentified"):
        dataset(tmp_path)[SampleKey(0, 1)]


def test_evaluation_sets(scenes_root: Path):
    labelled = LabelledDataset(FolderSource(scenes_root / "folders" / "val", labelled=True), decoder=Decoder(), size=32)
    first = labelled[3]
    assert first is not None
    image, label, index, _ = first
    assert image.shape == (3, 32, 32)
    assert label == labelled.source.label(3)
    assert index == 3
    pairs = SegmentationDataset(PairSource(scenes_root / "ade20k", "validation"), decoder=Decoder(), size=32)
    assert pairs[0].image.shape == (3, 32, 32)
    assert pairs[0].class_map.shape == (32, 32)
    assert 0 < pairs[0].class_map.max() <= 6


def test_broken_evaluation_images_are_left_out(with_broken: Path):
    labelled = LabelledDataset(FolderSource(with_broken, labelled=True), decoder=Decoder(), size=32)
    loader = evaluation_loader(labelled, batch_size=3, num_workers=0, rank=0, num_devices=1)
    seen = [index for batch in loader if batch is not None for index in batch.index.tolist()]
    assert seen == [index for index in range(48) if index not in (10, 11, 12)]


def class_map_root(tmp_path: Path, scenes_root: Path) -> Path:
    shutil.copytree(scenes_root / "ade20k", tmp_path / "ade20k")
    return tmp_path / "ade20k"


def test_damaged_class_maps_are_left_out(tmp_path: Path, scenes_root: Path):
    pairs = PairSource(class_map_root(tmp_path, scenes_root), "validation")
    content = pairs.map_path(0).read_bytes()
    for damaged in (content[: len(content) // 2], content.replace(b"IDAT", b"IDAX"), b""):
        pairs.map_path(0).write_bytes(damaged)
        assert SegmentationDataset(pairs, decoder=Decoder(), size=32)[0] is None


@pytest.mark.parametrize("mode", ["RGB", "I;16"])
def test_class_maps_of_another_kind_are_refused(tmp_path: Path, scenes_root: Path, mode):
    pairs = PairSource(class_map_root(tmp_path, scenes_root), "validation")
    Image.new(mode, (64, 64)).save(pairs.map_path(0))
    with pytest.raises(ValueError, match=f"pixel mode {mode}; needed is one number of 8 bits"):
        SegmentationDataset(pairs, decoder=Decoder(), size=32)[0]
