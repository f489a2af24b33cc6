import numpy as np
import pytest
import torch
from PIL import Image
from shard_files import write_shards

from conmim_lightning.data.datasets.classification import ClassificationDataset
from conmim_lightning.data.images.decode import Decoder
from conmim_lightning.data.samplers.epoch import SampleKey
from conmim_lightning.data.sources.folder import FolderSource
from conmim_lightning.data.sources.shards.stream import StreamSource
from conmim_lightning.data.transforms.classification import TrainTransform
from conmim_lightning.data.transforms.crop import RandomResizedCrop


@pytest.fixture
def root(tmp_path):
    """Classes a, b, c of 2, 4 and 6 images in one colour per class."""
    for label, (name, count) in enumerate({"a": 2, "b": 4, "c": 6}.items()):
        (tmp_path / name).mkdir()
        for index in range(count):
            Image.new("RGB", (40, 30), (80 * label, 0, 0)).save(tmp_path / name / f"{index}.png")
    return tmp_path


def train_set(source, **changes):
    transform = TrainTransform(crop=RandomResizedCrop(16), mean=(0.5,) * 3)
    return ClassificationDataset(source, decoder=Decoder(), transform=transform, size=16, train=True, **changes)


@pytest.mark.parametrize("cache_decoded", [False, True])
def test_training_samples_follow_from_epoch_and_index(root, cache_decoded):
    Image.fromarray(np.random.default_rng(0).integers(0, 255, (30, 40, 3), np.uint8)).save(root / "a" / "0.png")
    source = FolderSource(root, labelled=True)
    dataset, again = train_set(source, cache_decoded=cache_decoded), train_set(source)
    assert torch.equal(dataset[SampleKey(1, 0)].image, again[SampleKey(1, 0)].image)
    assert torch.equal(dataset[SampleKey(1, 0)].image, again[SampleKey(1, 0)].image)
    assert not torch.equal(dataset[SampleKey(2, 0)].image, again[SampleKey(1, 0)].image)


def test_a_broken_training_image_is_replaced_with_its_label(root):
    (root / "a" / "0.png").write_bytes(b"nothing")
    sample = train_set(FolderSource(root, labelled=True))[SampleKey(0, 0)]
    assert sample.broken.startswith("a/0.png\t")
    assert sample.image[0].unique().tolist() == [80 * int(sample.label)]
    assert int(sample.index) == 0


def test_only_broken_images_end_the_run(root):
    for path in root.glob("*/*.png"):
        path.write_bytes(b"nothing")
    with pytest.raises(ValueError, match="100 consecutive images are broken"):
        train_set(FolderSource(root, labelled=True))[SampleKey(0, 0)]


def test_images_of_a_stream_are_not_cached(tmp_path):
    write_shards(tmp_path, 3)
    source = StreamSource(str(tmp_path), shards="00000.tar", samples_per_epoch=3)
    with pytest.raises(ValueError, match=r"is a stream, which cannot be cached; set data.cache_decoded=false"):
        train_set(source, cache_decoded=True)
