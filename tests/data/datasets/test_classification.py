import pytest
import torch
from PIL import Image

from conmim_lightning.data.datasets.classification import ClassificationDataset
from conmim_lightning.data.images.decode import Decoder
from conmim_lightning.data.sources.folder import FolderSource
from conmim_lightning.data.transforms.classification import EvaluationTransform


@pytest.fixture
def dataset(tmp_path):
    """Evaluation images of classes a, b, c: 2, 4 and 6 images in one colour per class; the last one is broken."""
    for label, (name, count) in enumerate({"a": 2, "b": 4, "c": 6}.items()):
        (tmp_path / name).mkdir()
        for index in range(count):
            Image.new("RGB", (40, 30), (80 * label, 0, 0)).save(tmp_path / name / f"{index}.png")
    (tmp_path / "c" / "5.png").write_bytes(b"nothing")
    source = FolderSource(tmp_path, labelled=True)
    return ClassificationDataset(source, decoder=Decoder(), transform=EvaluationTransform(16), size=16)


def test_labels_belong_to_their_images(dataset):
    for index in range(11):
        sample = dataset[index]
        assert sample.image[0].unique().tolist() == [80 * int(sample.label)]
        assert sample.broken == ""


def test_a_broken_evaluation_image_has_no_class(dataset):
    sample = dataset[11]
    assert int(sample.label) == -1
    assert sample.broken.startswith("c/5.png\t")
    assert sample.image.sum() == 0


def test_images_without_labels_have_no_class(dataset):
    unlabelled = FolderSource(dataset.source.root)
    dataset = ClassificationDataset(unlabelled, decoder=Decoder(), transform=EvaluationTransform(16), size=16)
    assert torch.equal(dataset[3].label, torch.tensor(-1))
