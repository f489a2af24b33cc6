import pytest
import torch
from coco_files import source, write_images
from PIL import Image

from conmim_lightning.data.datasets.detection import DetectionDataset
from conmim_lightning.data.images.decode import Decoder
from conmim_lightning.data.transforms.detection import FitSquare, ScaleJitter


@pytest.fixture
def folder(tmp_path):
    return write_images(tmp_path)


def dataset(coco, **settings):
    return DetectionDataset(
        coco,
        decoder=Decoder(),
        transform=ScaleJitter(size=64, mean=[0.5] * 3),
        evaluation_transform=FitSquare(size=64, mean=[0.5] * 3),
        **settings,
    )


def test_evaluation_samples(folder):
    samples = dataset(source(folder))
    batch = samples.collate([samples[index] for index in range(3)])
    assert batch.image.shape == (3, 3, 64, 64)
    assert batch.size.tolist() == [[64, 51]] * 3
    assert batch.original.tolist() == [[50, 40]] * 3
    assert batch.image[0, :, :, 51:].unique().tolist() == [128]
    assert [len(objects.boxes) for objects in batch.objects] == [1, 0, 2]
    assert batch.objects[0].crowd.tolist() == [True]
    assert batch.objects[2].masks.shape == (2, 50, 40)
    assert batch.objects[2].boxes.tolist() == [[10, 10, 30, 30]] * 2


def test_training_samples(folder):
    samples = dataset(source(folder, filter_empty=True), train=True)
    batch = samples.collate([samples[index] for index in range(2)])
    assert batch.image.shape == (2, 3, 64, 64)
    assert len(batch.objects[0].boxes) == 0  # crowds are not trained on
    assert all(objects.masks.shape[1:] == (64, 64) for objects in batch.objects)


def test_an_image_of_another_size_than_annotated(folder):
    Image.new("RGB", (30, 30)).save(folder / "train" / "9.png")
    samples = dataset(source(folder))
    with pytest.raises(ValueError, match=r"'9\.png' is 30 x 30 pixels, its annotation says 40 x 50"):
        samples[2]


def test_a_broken_image(folder):
    (folder / "train" / "9.png").write_bytes(b"nothing")
    sample = dataset(source(folder))[2]
    assert sample.broken.startswith("9.png\t")
    assert len(sample.objects.boxes) == 0
    replaced = dataset(source(folder, filter_empty=True), train=True)[1]
    assert replaced.broken.startswith("9.png\t")
    assert torch.equal(replaced.index, torch.tensor(1))
