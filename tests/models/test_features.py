import pytest
import torch
from conftest import beit
from torch.nn import functional as F

from conmim_lightning.models.features import FrozenFeatures


def test_each_feature_is_what_its_name_says():
    """Against the tokens after each block, normalised by the final norm."""
    backbone = beit(depth=3).eval()
    tokens = []
    for block in backbone.blocks:
        block.register_forward_hook(lambda module, inputs, output: tokens.append(backbone.norm(output)))
    images = torch.randn(2, 3, 32, 32)
    features = FrozenFeatures(backbone, ["last1_mean", "last1_cls", "last2_cls_mean", "pixels"])
    result = features(images)
    second, third = tokens[1:]
    torch.testing.assert_close(result["last1_mean"], third[:, 1:].mean(1))
    torch.testing.assert_close(result["last1_cls"], third[:, 0])
    wanted = torch.cat([second[:, 0], second[:, 1:].mean(1), third[:, 0], third[:, 1:].mean(1)], 1)
    torch.testing.assert_close(result["last2_cls_mean"], wanted)
    torch.testing.assert_close(result["pixels"], F.interpolate(images, size=32, mode="area").flatten(1))
    assert {name: value.shape[1] for name, value in result.items()} == features.widths


def test_frozen_means_frozen():
    features = FrozenFeatures(beit(drop_path_rate=0.5), ["last1_mean"]).train()
    images = torch.randn(4, 3, 32, 32)
    assert not features.backbone.training
    assert torch.equal(features(images)["last1_mean"], features(images)["last1_mean"])
    assert not any(parameter.requires_grad for parameter in features.parameters())


@pytest.mark.parametrize(
    ("names", "message"),
    [
        ([], "at least one"),
        (["last3_mean"], "'last3_mean' is unknown; .* n from 1 to 2"),
        (["last0_mean"], "unknown"),
        (["mean"], "unknown"),
    ],
)
def test_bad_names(names, message):
    with pytest.raises(ValueError, match=message):
        FrozenFeatures(beit(), names)


@pytest.mark.parametrize("changes", [{"num_classes": 3}, {"global_pool": "avg", "num_classes": 3}])
def test_a_classifier_is_rejected(changes):
    with pytest.raises(ValueError, match=r"num_classes=0 and global_pool=token"):
        FrozenFeatures(beit(**changes), ["last1_mean"])
