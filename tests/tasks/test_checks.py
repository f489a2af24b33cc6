from types import SimpleNamespace

import pytest
import torch
from conftest import beit
from torch import nn

from conmim_lightning.models.backbones import vit
from conmim_lightning.models.dense_vit import DenseVit
from conmim_lightning.tasks.checks import (
    balanced_weights,
    check_batch_norm,
    check_classifier,
    check_dense,
    reset_other_head,
    warn_normalization,
)

SMALL = {"img_size": 32, "patch_size": 8, "embed_dim": 16, "depth": 2, "num_heads": 2}


def test_balanced_weights_by_hand():
    assert balanced_weights([12, 6, 6]).tolist() == pytest.approx([2 / 3, 4 / 3, 4 / 3])


@pytest.mark.parametrize(
    ("image", "scores", "message"),
    [
        ((3, 48, 48), (5,), r"of shape \(3, 48, 48\), the backbone takes \(3, 32, 32\)"),
        ((1, 32, 32), (5,), r"of shape \(1, 32, 32\), the backbone takes \(3, 32, 32\)"),
        ((3, 32, 32), (4,), "the data has 4 classes, the task 5"),
    ],
)
def test_data_that_a_classifier_does_not_fit(image, scores, message):
    check_classifier(beit(), (3, 32, 32), (5,), 5)
    with pytest.raises(ValueError, match=message):
        check_classifier(beit(), image, scores, 5)


def test_data_that_a_dense_model_does_not_fit():
    maps = DenseVit(vit(**SMALL, shared_rel_pos_bias=False), size=64, out_indices=[1])
    check_dense(maps, (3, 64, 64), (5,), 5)
    with pytest.raises(ValueError, match=r"of shape \(3, 32, 32\), the model takes \(3, 64, 64\)"):
        check_dense(maps, (3, 32, 32), (5,), 5)


def test_batch_norm_over_one_image():
    pooled = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.BatchNorm2d(3))
    with pytest.raises(ValueError, match="batch norm needs at least 2 images"):
        check_batch_norm(pooled, 1, 4)
    check_batch_norm(pooled, 2, 1)
    check_batch_norm(nn.SyncBatchNorm.convert_sync_batchnorm(pooled), 1, 4)
    check_batch_norm(nn.Sequential(nn.BatchNorm2d(3)), 1, 1)


def test_a_head_is_re_initialised_only_for_other_classes():
    model = vit(**SMALL, num_classes=2, global_pool="avg")
    nn.init.ones_(model.head.weight)
    reset_other_head(model, ["a", "b"])
    assert (model.head.weight == 1).all()
    with pytest.warns(UserWarning, match="others or another order, b, a, ...; it is re-initialised"):
        reset_other_head(model, ["b", "a"])
    assert not (model.head.weight == 1).any()
    reset_other_head(beit(num_classes=2), ["a", "b"])  # built by timm: nothing is known of its classes


def test_another_normalisation_than_the_weights():
    model = vit(**SMALL)
    data = SimpleNamespace(mean=(0.5,) * 3, std=(0.5,) * 3)
    warn_normalization(model, data)  # random initialisation: any
    model.conmim_info.mean, model.conmim_info.std = (0.485, 0.456, 0.406), (0.5,) * 3
    with pytest.warns(UserWarning, match=r"of mean \[0.485, 0.456, 0.406\]; data.mean is \[0.5, 0.5, 0.5\]"):
        warn_normalization(model, data)
    assert torch.equal(balanced_weights([1, 1]), torch.ones(2))
