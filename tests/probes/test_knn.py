import math

import numpy as np
import torch
from probe_features import WIDTHS, make_features, make_store
from sklearn.neighbors import KNeighborsClassifier

from conmim_lightning.probes.knn import KNNProbe


def test_neighbors_agree_with_sklearn():
    """With weights exp(cosine / T) given to it as well."""
    probe = KNNProbe(num_classes=3, widths=WIDTHS, num_neighbors=[7, 1, 20], temperature=0.1)
    probe.fit(make_store(200, 0), None, "cpu")
    features, _ = make_features(60, 1)
    scores = probe(features)
    assert list(scores) == ["k1", "k7", "k20"] == probe.variants
    bank, labels = probe.bank.float().numpy(), probe.bank_labels.numpy()
    queries = torch.nn.functional.normalize(features["last1_mean"], dim=1).numpy()
    for k in (1, 7, 20):
        reference = KNeighborsClassifier(
            k, metric="cosine", algorithm="brute", weights=lambda distance: np.exp((1 - distance) / 0.1)
        ).fit(bank, labels)
        np.testing.assert_allclose(scores[f"k{k}"].numpy(), reference.predict_proba(queries), rtol=1e-3, atol=1e-4)


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
