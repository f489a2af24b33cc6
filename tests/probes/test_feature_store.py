import pytest
import torch
from probe_features import WIDTHS, make_features, make_store

from conmim_lightning.probes.feature_store import FeatureStore


def test_features_are_read_back_as_written():
    features, labels = make_features(120, 0)
    store = make_store(120, 0)
    chunks = list(store.chunks("last1_mean", "cpu", 32))
    assert [len(chunk) for chunk, _ in chunks] == [32, 32, 32, 24]
    assert torch.equal(torch.cat([chunk for chunk, _ in chunks]), features["last1_mean"])
    assert torch.equal(torch.cat([labels for _, labels in chunks]), labels)
    picked, picked_labels = store.pick(torch.tensor([3, 77]), "cpu")
    assert torch.equal(picked["pixels"], features["pixels"][[3, 77]])
    assert picked_labels.tolist() == labels[[3, 77]].tolist()


def test_unlabelled_images_are_left_out_and_infinity_is_an_error():
    store = FeatureStore(3, {"a": 2})
    store.add({"a": torch.ones(3, 2)}, torch.tensor([1, -1, 0]))
    assert len(store) == 2
    assert store.labels[:2].tolist() == [1, 0]
    with pytest.raises(ValueError, match="not finite"):
        store.add({"a": torch.full((1, 2), float("inf"))}, torch.tensor([0]))


def test_files_are_deleted_with_the_store(tmp_path):
    store = FeatureStore(3, {"a": 2}, str(tmp_path / "store"))
    assert len(list((tmp_path / "store").iterdir())) == 1
    del store
    assert not list((tmp_path / "store").iterdir())


def test_a_full_disk_is_reported_before_anything_is_computed(monkeypatch, tmp_path):
    usage = type("Usage", (), {"free": 1000})
    monkeypatch.setattr("conmim_lightning.probes.feature_store.shutil.disk_usage", lambda place: usage)
    with pytest.raises(ValueError, match=r"features of 1000 images need .* set task.folder"):
        FeatureStore(1000, WIDTHS, str(tmp_path))
    assert not list(tmp_path.iterdir())
