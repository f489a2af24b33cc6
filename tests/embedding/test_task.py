import pytest
import torch
from conftest import beit

from conmim_lightning.embedding.dataset import EmbeddingBatch
from conmim_lightning.embedding.task import EmbeddingTask
from conmim_lightning.models.features import FrozenFeatures
from conmim_lightning.models.normalize import Normalize

NORMALIZE = Normalize([0.5] * 3, [0.2] * 3)
IMAGES = torch.randint(0, 256, (2, 3, 32, 32), dtype=torch.uint8)


def batch(images: torch.Tensor) -> EmbeddingBatch:
    return EmbeddingBatch(images, torch.zeros(len(images)), [], [], 0, last=True)


def test_features_are_those_of_frozen_probes():
    backbone = beit()
    names = ["last1_mean", "last2_cls_mean", "pixels", "patches"]
    task = EmbeddingTask(backbone, normalize=NORMALIZE, features=names)
    values = task.predict_step(task.on_after_batch_transfer(batch(IMAGES), 0), 0)
    assert list(values) == names
    with torch.no_grad():
        expected = FrozenFeatures(backbone, names[:3])(NORMALIZE(IMAGES))
        tokens = backbone.forward_features(NORMALIZE(IMAGES))
    assert all(torch.equal(values[name], expected[name]) for name in names[:3])
    assert torch.equal(values["patches"], tokens[:, 1:].unflatten(1, (4, 4)))
    assert {name: tuple(value.shape[1:]) for name, value in values.items()} == task.features.shapes


def test_a_fine_tuned_model_and_halves():
    model = beit(num_classes=3, global_pool="avg")
    task = EmbeddingTask(model, normalize=NORMALIZE, features=["pooled"], half=True)
    values = task.predict_step(task.on_after_batch_transfer(batch(IMAGES), 0), 0)["pooled"]
    assert values.dtype == torch.float16
    with torch.no_grad():
        torch.testing.assert_close(model.head(values.float()), model.eval()(NORMALIZE(IMAGES)), atol=1e-2, rtol=1e-2)
    with pytest.raises(ValueError, match="frozen features need a backbone with num_classes=0"):
        EmbeddingTask(model, normalize=NORMALIZE, features=["last1_mean"])


def test_an_empty_batch():
    task = EmbeddingTask(beit(), normalize=NORMALIZE, features=["last1_mean", "patches"])
    values = task.predict_step(task.on_after_batch_transfer(batch(IMAGES[:0]), 0), 0)
    assert [tuple(value.shape) for value in values.values()] == [(0, 16), (0, 4, 4, 16)]
    with pytest.raises(ValueError, match="at least one feature is needed"):
        EmbeddingTask(beit(), normalize=NORMALIZE, features=[])
