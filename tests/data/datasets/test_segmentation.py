import numpy as np
import pytest
import torch
from PIL import Image

from conmim_lightning.data.datasets.segmentation import SegmentationDataset
from conmim_lightning.data.images.decode import Decoder
from conmim_lightning.data.sources.class_maps import SegmentationSplits
from conmim_lightning.data.sources.folder import FolderSource
from conmim_lightning.data.transforms.crop import CenterSquare


@pytest.fixture
def root(tmp_path):
    """Three images of 6 x 4 pixels whose grey level is ten times their map's value; the last image is broken."""
    values = (np.arange(24).reshape(4, 6) % 4).astype(np.uint8)
    for kind in ("images", "annotations"):
        (tmp_path / kind / "training").mkdir(parents=True)
    for index in range(3):
        Image.fromarray(10 * values).save(tmp_path / "images" / "training" / f"{index}.png")
        Image.fromarray(values).save(tmp_path / "annotations" / "training" / f"{index}.png")
    (tmp_path / "images" / "training" / "2.png").write_bytes(b"nothing")
    return tmp_path


def dataset(root, **others):
    source = SegmentationSplits(num_classes=3)(str(root), "training", None)
    return SegmentationDataset(source, decoder=Decoder(channels=1), **others)


def test_maps_belong_to_their_images(root):
    sample = dataset(root)[1]
    assert torch.equal(sample.image[0].long(), 10 * (sample.label.long() + 1))
    assert sample.label.dtype == torch.int16


def test_training_transforms_both_alike(root):
    flip = lambda pixels, label, generator: (pixels.flip(-1), label.flip(-1))  # noqa: E731
    data = dataset(root, train=True, transform=flip)
    sample = data[0]
    assert torch.equal(sample.image[0].long(), 10 * (sample.label.long() + 1))
    assert data.collate([data[0], data[1]]).image.shape == (2, 1, 4, 6)


def test_evaluation_keeps_sizes_in_lists(root):
    data = dataset(root)
    batch = data.collate([data[0], data[2]])
    assert [tuple(image.shape) for image in batch.image] == [(1, 4, 6), (1, 1, 1)]
    assert batch.label[1].tolist() == [[-1]], "an unreadable image has no class"
    assert batch.broken[0] == ""
    assert batch.broken[1].startswith("2.png\t")


def test_squares(root):
    sample = dataset(root, square=CenterSquare(4))[0]
    assert sample.image.shape == (1, 4, 4)
    assert sample.label.shape == (4, 4)


def test_pixels_of_a_map_are_counted(root):
    assert dataset(root).check(0, 4, 6).tolist() == [6, 6, 6]
    Image.fromarray(np.zeros((4, 6), np.uint8)).save(root / "annotations" / "training" / "0.png")
    with pytest.raises(ValueError, match="no pixel of the class map has a class"):
        dataset(root).check(0, 4, 6)


def test_images_without_maps_have_no_class(root):
    plain = SegmentationDataset(FolderSource(root / "images"), decoder=Decoder(channels=1))
    assert plain[0].label.unique().tolist() == [-1]
