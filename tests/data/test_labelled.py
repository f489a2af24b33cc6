import numpy as np
import pytest
import torch
from PIL import Image

from conmim_lightning.data.balanced import BalancedSampler
from conmim_lightning.data.crop import RandomResizedCrop
from conmim_lightning.data.decode import Decoder
from conmim_lightning.data.folder import FolderSource
from conmim_lightning.data.labelled import LabelledImages
from conmim_lightning.data.sampler import SampleKey
from conmim_lightning.data.subsets import held_out, labels_of
from conmim_lightning.data.transforms.classification import EvaluationTransform, TrainTransform


@pytest.fixture
def root(tmp_path):
    """Classes a, b, c of 2, 4 and 6 images in one colour a class."""
    for label, (name, count) in enumerate({"a": 2, "b": 4, "c": 6}.items()):
        (tmp_path / name).mkdir()
        for number in range(count):
            Image.new("RGB", (40, 30), (80 * label, 0, 0)).save(tmp_path / name / f"{number}.png")
    return tmp_path


def images(root, *, train, **changes):
    transform = TrainTransform(crop=RandomResizedCrop(16), mean=(0.5,) * 3) if train else EvaluationTransform(16)
    return LabelledImages(
        FolderSource(root, labelled=True), decoder=Decoder(), transform=transform, size=16, train=train, **changes
    )


def test_labels_go_with_their_images(root):
    dataset = images(root, train=False)
    for index in range(12):
        sample = dataset[index]
        assert sample.image[0].unique().tolist() == [80 * int(sample.label)]
        assert sample.broken == ""


@pytest.mark.parametrize("keep_decoded", [False, True])
def test_training_samples_follow_from_epoch_and_index(root, keep_decoded):
    Image.fromarray(np.random.default_rng(0).integers(0, 255, (30, 40, 3), np.uint8)).save(root / "a" / "0.png")
    dataset = images(root, train=True, keep_decoded=keep_decoded)
    again = images(root, train=True)
    assert torch.equal(dataset[SampleKey(1, 0)].image, again[SampleKey(1, 0)].image)
    assert torch.equal(dataset[SampleKey(1, 0)].image, again[SampleKey(1, 0)].image)
    assert not torch.equal(dataset[SampleKey(2, 0)].image, again[SampleKey(1, 0)].image)


def test_a_broken_training_image_is_replaced_with_its_label(root):
    (root / "a" / "0.png").write_bytes(b"nothing")
    sample = images(root, train=True)[SampleKey(0, 0)]
    assert sample.broken.startswith("a/0.png\t")
    assert sample.image[0].unique().tolist() == [80 * int(sample.label)]
    assert int(sample.index) == 0


def test_a_broken_image_to_evaluate_has_no_class(root):
    (root / "c" / "5.png").write_bytes(b"nothing")
    sample = images(root, train=False)[11]
    assert int(sample.label) == -1
    assert sample.broken.startswith("c/5.png\t")
    assert sample.image.sum() == 0


def test_nothing_but_broken_images_ends_the_run(root):
    for path in root.glob("*/*.png"):
        path.write_bytes(b"nothing")
    with pytest.raises(ValueError, match="100 images in a row are broken"):
        images(root, train=True)[SampleKey(0, 0)]


def test_what_is_held_out_is_not_trained_on(root):
    source = FolderSource(root, labelled=True)
    rest, held = held_out(source, share=0.5, seed=1)
    assert sorted([*rest.indices, *held.indices]) == list(range(12))
    assert np.bincount(labels_of(held)).tolist() == [1, 2, 3]
    assert np.bincount(labels_of(rest)).tolist() == [1, 2, 3]
    assert held_out(source, share=0.5, seed=1)[1].indices.tolist() == held.indices.tolist()
    assert held_out(source, share=0.5, seed=2)[1].indices.tolist() != held.indices.tolist()


def test_a_class_of_one_image_cannot_be_held_out(root):
    (root / "a" / "0.png").unlink()
    with pytest.raises(ValueError, match="class 'a', which has one image"):
        held_out(FolderSource(root, labelled=True), share=0.5)


LABELS = np.repeat(np.arange(3), [10, 100, 1000])


def test_classes_of_unequal_size_come_alike():
    counts = np.bincount(LABELS[[key.index for key in BalancedSampler(LABELS, seed=0)]])
    assert counts.sum() == 1110
    assert counts.min() > 300


def test_balanced_order_is_the_same_for_any_number_of_devices_and_after_a_resume():
    whole = list(BalancedSampler(LABELS, seed=3))
    parts = [list(BalancedSampler(LABELS, seed=3, rank=rank, num_devices=2)) for rank in (0, 1)]
    assert [key for pair in zip(*parts, strict=True) for key in pair] == whole
    sampler = BalancedSampler(LABELS, seed=3)
    sampler.resume(0, 500)
    assert list(sampler) == whole[500:]
    sampler.set_epoch(1)
    assert len(list(sampler)) == 1110
    assert list(sampler) != whole
