import pytest
import torch
from conftest import beit

from conmim_lightning.models.features import FrozenFeatures
from conmim_lightning.models.image_features import ImageFeatures, default_feature

IMAGES = torch.randn(2, 3, 32, 32)


def test_features_by_name():
    backbone = beit()
    features = ImageFeatures(backbone, ["patches", "last1_mean", "patches"])
    values = features(IMAGES)
    assert list(values) == ["patches", "last1_mean"]
    assert {name: tuple(value.shape[1:]) for name, value in values.items()} == features.shapes
    assert torch.equal(values["last1_mean"], FrozenFeatures(backbone, ["last1_mean"])(IMAGES)["last1_mean"])
    assert torch.equal(values["patches"].flatten(1, 2), backbone.forward_features(IMAGES)[:, 1:])


def test_the_pooled_vector_is_what_the_classifier_takes():
    model = beit(num_classes=3, global_pool="avg")
    pooled = ImageFeatures(model, ["pooled"])(IMAGES)["pooled"]
    torch.testing.assert_close(model.head(pooled), model.eval()(IMAGES))


def test_values_are_float32():
    assert ImageFeatures(beit().bfloat16(), ["pooled"])(IMAGES.bfloat16())["pooled"].dtype == torch.float32


def test_default_feature():
    assert default_feature(beit()) == "last1_mean"
    assert default_feature(beit(num_classes=3)) == "pooled"


def test_no_feature():
    with pytest.raises(ValueError, match="at least one feature is needed"):
        ImageFeatures(beit(), [])
