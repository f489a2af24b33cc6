import pytest
import torch
from hydra.utils import instantiate

from conmim_lightning.inference.load import load
from conmim_lightning.runtime.restore import without_weights
from conmim_lightning.visualization import models
from conmim_lightning.visualization.models import named_models
from conmim_lightning.weights.checkpoint import read_checkpoint


def test_a_run_against_new_weights(dense_pretrained):
    first, second = named_models(str(dense_pretrained), "random", "teacher", [])
    assert first.name == dense_pretrained.name
    assert second.name == "re-initialised"
    assert first.task is not None
    assert second.task is None
    images = torch.randn(1, 3, 32, 32)
    assert not torch.allclose(first.encoder.features(images), second.encoder.features(images))
    with torch.random.fork_rng([]):
        torch.manual_seed(0)
        config = read_checkpoint(dense_pretrained)["run"]["config"]
        expected = instantiate(without_weights(config["task"])).backbone("teacher").state_dict()
    new = second.encoder.backbone.state_dict()
    assert all(torch.equal(new[name], value) for name, value in expected.items()), "as the training would begin"
    again = named_models(str(dense_pretrained), "random", "teacher", [])[1]
    assert torch.equal(again.encoder.features(images), second.encoder.features(images)), "the same in each picture"


def test_two_runs_of_one_name_are_told_apart(dense_pretrained):
    first, second = named_models(str(dense_pretrained), f"{dense_pretrained}/checkpoints/..", "teacher", [])
    assert first.name != second.name


def test_a_model_without_features(dense_runs):
    with pytest.raises(ValueError, match=r"is a LoadedSegmenter, .* use kind=\[predictions\]"):
        named_models(f"{dense_runs}/segmentation", None, "teacher", [])


def test_models_of_other_sizes(dense_pretrained, monkeypatch):
    def load_with_size(source, **others):
        model = load(str(dense_pretrained), **others)
        model.transform.size = 64 if source == "other" else 32
        return model

    monkeypatch.setattr(models, "load", load_with_size)
    with pytest.raises(ValueError, match=r"take different images \(size and channels\): \(32, 3\) and \(64, 3\)"):
        named_models("one", "other", "teacher", [])
