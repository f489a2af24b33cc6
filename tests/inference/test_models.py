import pytest
import torch
from conftest import beit
from PIL import Image
from sklearn.datasets import load_sample_image

from conmim_lightning.data.transforms.crop import CenterSquare
from conmim_lightning.inference.models import LoadedClassifier, LoadedEncoder, TimmScores
from conmim_lightning.inference.preprocessing import Preprocessing
from conmim_lightning.models.features import FrozenFeatures

PHOTOGRAPHS = [Image.fromarray(load_sample_image(name)) for name in ("china.jpg", "flower.jpg")]


def transform() -> Preprocessing:
    return Preprocessing(CenterSquare(32), size=32, mean=[0.5] * 3, std=[0.2] * 3)


@pytest.fixture
def encoder() -> LoadedEncoder:
    return LoadedEncoder(beit(), transform())


def test_features(encoder):
    images = encoder.transform.batch(PHOTOGRAPHS)
    assert torch.equal(encoder.features(PHOTOGRAPHS), encoder.features(images))
    tokens = encoder(images)
    torch.testing.assert_close(encoder.features(images), tokens[:, 1:].mean(1))
    torch.testing.assert_close(encoder.features(images, "last1_cls"), tokens[:, 0])
    torch.testing.assert_close(encoder.patch_features(images), tokens[:, 1:].unflatten(1, (4, 4)))
    expected = FrozenFeatures(beit(), ["last2_cls_mean"]).widths["last2_cls_mean"]
    assert encoder.features(PHOTOGRAPHS[0], "last2_cls_mean").shape == (1, expected)


def test_many_images_are_encoded_in_batches(encoder):
    images = torch.randn(70, 3, 32, 32)
    torch.testing.assert_close(encoder.features(images), encoder(images)[:, 1:].mean(1))


def test_a_plain_module_that_stays_in_eval_mode(encoder):
    assert not encoder.train().training
    assert not any(parameter.requires_grad for parameter in encoder.parameters())
    assert encoder.to("cpu").device.type == "cpu"
    again = LoadedEncoder(beit(), transform())
    again.load_state_dict(encoder.state_dict())
    images = torch.randn(1, 3, 32, 32)
    assert torch.equal(again(images), encoder(images))


def test_nothing_to_encode(encoder):
    with pytest.raises(ValueError, match="there are no images"):
        encoder.features([])
    with pytest.raises(ValueError, match="feature 'last9_mean' is unknown"):
        encoder.features(PHOTOGRAPHS, "last9_mean")


@pytest.mark.parametrize("pool", ["avg", "token"])
def test_a_classifier(pool):
    model = beit(num_classes=3, global_pool=pool).eval()
    classifier = LoadedClassifier(model, transform(), TimmScores(model), ["a", "b", "c"])
    images = classifier.transform.batch(PHOTOGRAPHS)
    expected = model(images).softmax(1)
    torch.testing.assert_close(classifier(images), expected)
    first, second = classifier.predict(PHOTOGRAPHS)
    assert [first.classes[0], second.classes[0]] == ["abc"[label] for label in expected.argmax(1).tolist()]
    assert sorted(first.classes) == ["a", "b", "c"]
    assert first.scores == sorted(first.scores, reverse=True)
    assert sum(first.scores) == pytest.approx(1)
    (best,) = classifier.predict(PHOTOGRAPHS[0], top=1)
    assert (best.classes, best.scores) == (first.classes[:1], first.scores[:1])
    torch.testing.assert_close(model.head(classifier.features(images)), model(images))
    with pytest.raises(ValueError, match="top must be at least 1, got 0"):
        classifier.predict(PHOTOGRAPHS, top=0)
