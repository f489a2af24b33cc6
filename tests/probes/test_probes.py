import math

import numpy as np
import pytest
import torch
from sklearn.linear_model import LogisticRegression
from sklearn.neighbors import KNeighborsClassifier
from sklearn.preprocessing import StandardScaler

from conmim_lightning.probes.knn import KNNProbe
from conmim_lightning.probes.linear import LinearProbe
from conmim_lightning.probes.logistic import LogisticProbe
from conmim_lightning.probes.rows import Rows

WIDTHS = {"last1_mean": 12, "pixels": 4}
ONE_WAY = {"last1_mean": 12}


def made(count: int, seed: int) -> tuple[dict[str, torch.Tensor], torch.Tensor]:
    """Three overlapping classes in "last1_mean"; nothing in "pixels"."""
    random = torch.Generator().manual_seed(seed)
    labels = torch.arange(count) % 3
    centres = 1.2 * torch.randn(3, 12, generator=torch.Generator().manual_seed(9))
    features = centres[labels] + 1.5 * torch.randn(count, 12, generator=random) + 3
    return {"last1_mean": features, "pixels": torch.randn(count, 4, generator=random)}, labels


def rows(count: int, seed: int) -> Rows:
    features, labels = made(count, seed)
    store = Rows(count, WIDTHS)
    for start in range(0, count, 50):
        store.add({way: values[start : start + 50] for way, values in features.items()}, labels[start : start + 50])
    return store


def test_rows_come_back_as_they_went_in():
    features, labels = made(120, 0)
    store = rows(120, 0)
    parts = list(store.chunks("last1_mean", "cpu", 32))
    assert [len(part) for part, _ in parts] == [32, 32, 32, 24]
    torch.testing.assert_close(torch.cat([part for part, _ in parts]), features["last1_mean"].half().float())
    assert torch.equal(torch.cat([part for _, part in parts]), labels)
    picked, picked_labels = store.pick(torch.tensor([3, 77]), "cpu")
    torch.testing.assert_close(picked["pixels"], features["pixels"][[3, 77]].half().float())
    assert picked_labels.tolist() == labels[[3, 77]].tolist()


def test_rows_leave_out_what_has_no_class_and_refuse_what_overflows():
    store = Rows(3, {"a": 2})
    store.add({"a": torch.ones(3, 2)}, torch.tensor([1, -1, 0]))
    assert len(store) == 2
    assert store.labels[:2].tolist() == [1, 0]
    with pytest.raises(ValueError, match="not finite in float16"):
        store.add({"a": torch.full((1, 2), 1e6)}, torch.tensor([0]))


def test_rows_leave_nothing_behind(tmp_path):
    store = Rows(3, {"a": 2}, str(tmp_path / "here"))
    assert len(list((tmp_path / "here").iterdir())) == 1
    del store
    assert not list((tmp_path / "here").iterdir())


def test_nearest_neighbours_are_sklearns():
    """With weights exp(cosine / T) given to it as well."""
    probe = KNNProbe(num_classes=3, widths=WIDTHS, num_neighbors=[7, 1, 20], temperature=0.1)
    probe.fit(rows(200, 0), None, "cpu")
    features, _ = made(60, 1)
    found = probe(features)
    assert list(found) == ["k1", "k7", "k20"] == probe.variants
    bank, labels = probe.bank.float().numpy(), probe.bank_labels.numpy()
    queries = torch.nn.functional.normalize(features["last1_mean"], dim=1).numpy()
    for k in (1, 7, 20):
        theirs = KNeighborsClassifier(
            k, metric="cosine", algorithm="brute", weights=lambda distance: np.exp((1 - distance) / 0.1)
        ).fit(bank, labels)
        np.testing.assert_allclose(found[f"k{k}"].numpy(), theirs.predict_proba(queries), rtol=1e-3, atol=1e-4)


def test_neighbours_are_the_same_for_any_chunk():
    from conmim_lightning.metrics.knn import knn_votes

    bank, queries = (torch.nn.functional.normalize(torch.randn(n, 8), dim=1) for n in (100, 9))
    labels = torch.arange(100) % 4
    settings = {"num_neighbors": [3, 30], "temperature": 0.07, "num_classes": 4}
    whole = knn_votes(queries, bank, labels, **settings)
    for chunk in (1, 7, 64):
        parts = knn_votes(queries, bank, labels, **settings, chunk=chunk)
        assert all(torch.allclose(parts[k], whole[k]) for k in (3, 30))


def test_logistic_regression_is_sklearns():
    train = rows(150, 0)
    probe = LogisticProbe(num_classes=3, widths=WIDTHS, ways=["last1_mean"], penalties=[0.01], max_iterations=500)
    assert probe.fit(train, None, "cpu") == {}
    features, labels = made(150, 0)
    half = features["last1_mean"].half().double().numpy()
    scaler = StandardScaler().fit(half)
    theirs = LogisticRegression(C=1 / (0.01 * 150), max_iter=5000, tol=1e-8).fit(scaler.transform(half), labels.numpy())
    queries, _ = made(40, 1)
    wanted = theirs.predict_proba(scaler.transform(queries["last1_mean"].double().numpy()))
    np.testing.assert_allclose(probe(queries)[""].numpy(), wanted, atol=2e-3)


@pytest.mark.parametrize(
    "make",
    [
        lambda: LogisticProbe(num_classes=3, widths=WIDTHS, penalties=[10.0, 0.01]),
        lambda: LinearProbe(num_classes=3, widths=WIDTHS, rates=[1e-6, 0.05], epochs=30, batch_size=64, norm="batch"),
    ],
)
def test_the_best_is_chosen_on_held_out_images(make):
    """Chosen is the way that tells of the classes, and does as well on other images; without any there is an error."""
    probe = make()
    with pytest.raises(ValueError, match=r"data.held_out_share=0.1"):
        probe.fit(rows(150, 0), None, "cpu")
    found = probe.fit(rows(150, 0), rows(90, 2), "cpu")
    chosen = probe.way if isinstance(probe, LogisticProbe) else probe.heads.settings[int(probe.best)]
    assert chosen == ("last1_mean" if isinstance(probe, LogisticProbe) else ("last1_mean", 0.05))
    queries, labels = made(300, 3)
    share = (probe(queries)[""].argmax(1) == labels).float().mean().item()
    assert found["selection_top1"] > 0.7
    assert abs(share - found["selection_top1"]) < 0.15


def test_a_linear_probe_does_not_depend_on_what_was_drawn_before():
    found = []
    for draws in (0, 3):
        torch.rand(draws)
        probe = LinearProbe(num_classes=3, widths=ONE_WAY, rates=[0.05], epochs=2, batch_size=64)
        probe.fit(rows(90, 0), None, "cpu")
        found.append(probe.heads.heads[0].weight)
    assert torch.equal(*found)


@pytest.mark.parametrize(
    "make",
    [
        lambda: KNNProbe(num_classes=3, widths=WIDTHS, num_neighbors=[5]),
        lambda: LogisticProbe(num_classes=3, widths=WIDTHS, ways=["pixels"], penalties=[0.1]),
        lambda: LinearProbe(num_classes=3, widths=ONE_WAY, rates=[0.1], epochs=1),
    ],
)
def test_what_was_fitted_travels_with_the_state(make, tmp_path):
    probe = make()
    probe.fit(rows(60, 0), None, "cpu")
    torch.save(probe.state_dict(), tmp_path / "state.pt")
    other = make()
    other.load_state_dict(torch.load(tmp_path / "state.pt", weights_only=True))
    queries, _ = made(10, 1)
    probe.eval(), other.eval()
    for variant in probe.variants:
        assert torch.equal(probe(queries)[variant], other(queries)[variant])


@pytest.mark.parametrize(
    ("make", "told"),
    [
        (lambda: KNNProbe(num_classes=3, widths=WIDTHS, num_neighbors=[0]), "num_neighbors >= 1"),
        (lambda: KNNProbe(num_classes=3, widths=WIDTHS, num_neighbors=[5], temperature=0), "temperature > 0"),
        (
            lambda: KNNProbe(num_classes=3, widths=WIDTHS, num_neighbors=[5], way="last2_cls"),
            "last2_cls.*task.features",
        ),
        (lambda: LogisticProbe(num_classes=3, widths=WIDTHS, penalties=[-1.0]), "penalties >= 0"),
        (lambda: LogisticProbe(num_classes=3, widths=WIDTHS, ways=["x"]), "task.features"),
        (lambda: LinearProbe(num_classes=3, widths=WIDTHS, rates=[0.1], epochs=0), "epochs and batch_size"),
    ],
)
def test_bad_settings(make, told):
    with pytest.raises(ValueError, match=told):
        make()


def test_with_fewer_images_than_neighbours_all_vote():
    probe = KNNProbe(num_classes=3, widths=WIDTHS, num_neighbors=[20, 50])
    probe.fit(rows(20, 0), None, "cpu")
    queries, _ = made(5, 1)
    assert torch.equal(probe(queries)["k50"], probe(queries)["k20"])


def test_a_disk_without_room_is_told_before(monkeypatch, tmp_path):
    usage = type("Usage", (), {"free": 1000})
    monkeypatch.setattr("conmim_lightning.probes.rows.shutil.disk_usage", lambda place: usage)
    with pytest.raises(ValueError, match=r"features of 1000 images need .* set task.folder"):
        Rows(1000, WIDTHS, str(tmp_path))
    assert not list(tmp_path.iterdir())


def test_the_vote_of_one_neighbour_is_certain():
    probe = KNNProbe(num_classes=3, widths=WIDTHS, num_neighbors=[1])
    train = rows(30, 0)
    probe.fit(train, None, "cpu")
    features, labels = made(30, 0)
    assert torch.equal(probe(features)["k1"].argmax(1), labels)
    assert math.isclose(float(probe(features)["k1"].max(1).values.min()), 1.0)
