import math

import numpy as np
import pytest
import torch
from probe_features import WIDTHS, make_features, make_store
from sklearn.neighbors import KNeighborsClassifier

from conmim_lightning.metrics.knn import knn_votes
from conmim_lightning.probes.feature_store import FeatureStore
from conmim_lightning.probes.knn import KNNProbe


def test_neighbors_agree_with_sklearn():
    """With weights exp(cosine / T) given to it as well."""
    probe = KNNProbe(num_classes=3, widths=WIDTHS, num_neighbors=[7, 1, 20], temperature=0.1)
    probe.fit(make_store(200, 0), None, "cpu")
    features, _ = make_features(60, 1)
    scores = probe(features)
    assert list(scores) == ["k1", "k7", "k20"] == probe.variants
    bank, labels = probe.bank.numpy(), probe.bank_labels.numpy()
    queries = torch.nn.functional.normalize(features["last1_mean"], dim=1).numpy()
    for k in (1, 7, 20):
        reference = KNeighborsClassifier(
            k, metric="cosine", algorithm="brute", weights=lambda distance: np.exp((1 - distance) / 0.1)
        ).fit(bank, labels)
        np.testing.assert_allclose(scores[f"k{k}"].numpy(), reference.predict_proba(queries), rtol=1e-4, atol=1e-5)


def test_all_images_vote_if_there_are_fewer_than_k():
    probe = KNNProbe(num_classes=3, widths=WIDTHS, num_neighbors=[20, 50])
    probe.fit(make_store(20, 0), None, "cpu")
    queries, _ = make_features(5, 1)
    assert torch.equal(probe(queries)["k50"], probe(queries)["k20"])


def test_the_vote_of_one_neighbor_is_certain():
    probe = KNNProbe(num_classes=3, widths=WIDTHS, num_neighbors=[1])
    train = make_store(30, 0)
    probe.fit(train, None, "cpu")
    features, labels = make_features(30, 0)
    assert torch.equal(probe(features)["k1"].argmax(1), labels)
    assert math.isclose(float(probe(features)["k1"].max(1).values.min()), 1.0)


@pytest.mark.parametrize("spread", [1.0, 0.1, 0.01])
def test_answers_are_those_of_sklearn_on_nearly_collinear_features(spread):
    """As of an encoder whose features share one large component; float16 would change 2 to 3 % of the answers."""
    generator = torch.Generator().manual_seed(0)
    common = 10 * torch.randn(64, generator=generator)
    centres = torch.randn(10, 64, generator=generator)
    train, test = torch.randint(10, (2000,), generator=generator), torch.randint(10, (1000,), generator=generator)
    features = [
        common + spread * (centres[n] + 2 * torch.randn(len(n), 64, generator=generator)) for n in (train, test)
    ]
    store = FeatureStore(2000, {"a": 64})
    store.add({"a": features[0]}, train)
    probe = KNNProbe(num_classes=10, widths={"a": 64}, num_neighbors=[20], temperature=0.07)
    probe.fit(store, None, "cpu")
    answers = probe({"a": features[1]})["k20"].argmax(1)
    reference = KNeighborsClassifier(
        20, metric="cosine", algorithm="brute", weights=lambda distance: np.exp((1 - distance) / 0.07)
    ).fit(features[0].double().numpy(), train.numpy())
    expected = torch.from_numpy(reference.predict(features[1].double().numpy()))
    assert torch.equal(answers, expected)


@pytest.mark.parametrize("spread", [1e-2, 1e-3])
def test_neighbors_are_exact_within_several_dense_clusters(spread):
    """Cosines of float32 products alone would confuse up to 83 % of the nearest neighbours."""
    generator = torch.Generator().manual_seed(0)
    clusters = torch.nn.functional.normalize(torch.randn(10, 64, generator=generator))
    bank, queries = (
        clusters[torch.randint(10, (count,), generator=generator)]
        + spread * torch.randn(count, 64, generator=generator)
        for count in (2000, 300)
    )
    bank, queries = (torch.nn.functional.normalize(values) for values in (bank, queries))
    expected = (bank.double()[None] - queries.double()[:, None]).square().sum(-1).argmin(1)
    votes = knn_votes(queries, bank, torch.arange(2000), num_neighbors=[1], temperature=0.07, num_classes=2000)
    assert torch.equal(votes[1].argmax(1), expected)
