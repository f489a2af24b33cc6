import math

import pytest
import torch

from conmim_lightning.metrics.knn import KNNAccuracy


def clusters(count=60, classes=7, seed=0):
    random = torch.Generator().manual_seed(seed)
    labels = torch.randint(classes, (count,), generator=random)
    centres = torch.randn(classes, 5, generator=torch.Generator().manual_seed(9))
    return centres[labels] + 0.8 * torch.randn(count, 5, generator=random), labels


def naive(bank, bank_labels, queries, labels, k, temperature, top):
    hits = 0
    for query, label in zip(queries, labels, strict=True):
        cosines = [torch.cosine_similarity(query, other, dim=0).item() for other in bank]
        nearest = sorted(range(len(bank)), key=lambda i: -cosines[i])[:k]
        votes: dict[int, float] = {}
        for i in nearest:
            votes[int(bank_labels[i])] = votes.get(int(bank_labels[i]), 0) + math.exp(cosines[i] / temperature)
        hits += int(label) in sorted(votes, key=lambda c: -votes[c])[:top]
    return hits / len(labels)


@pytest.mark.parametrize("k", [1, 4, 20, 500])
def test_equals_the_definition(k):
    (bank, bank_labels), (queries, labels) = clusters(), clusters(seed=1)
    metric = KNNAccuracy(num_neighbors=k)
    for part in range(0, 60, 25):
        metric.update(bank[part : part + 25], bank_labels[part : part + 25], reference=True)
    metric.update(queries, labels, reference=False)
    result = metric.compute()
    assert result["top1"].item() == pytest.approx(naive(bank, bank_labels, queries, labels, k, 0.07, 1))
    assert 0.3 < result["top1"] < 1


def test_top5_counts_only_the_first_five():
    # One neighbour of each of seven classes, ever less similar: class c is the (c + 1)-th.
    angles = torch.linspace(0.1, 1.0, 7)
    metric = KNNAccuracy(num_neighbors=7)
    metric.update(torch.stack([angles.cos(), angles.sin()], 1), torch.arange(7), reference=True)
    metric.update(torch.tensor([[1.0, 0.0]] * 7), torch.arange(7), reference=False)
    result = metric.compute()
    assert result["top1"].item() == pytest.approx(1 / 7)
    assert result["top5"].item() == pytest.approx(5 / 7)


@pytest.mark.parametrize("arguments", [{"num_neighbors": 0}, {"temperature": 0.0}])
def test_bad_arguments(arguments):
    with pytest.raises(ValueError, match="k-NN needs"):
        KNNAccuracy(**arguments)


def test_votes_do_not_depend_on_the_chunk_size():
    from conmim_lightning.metrics.knn import knn_votes

    bank, queries = (torch.nn.functional.normalize(torch.randn(n, 8), dim=1) for n in (100, 9))
    labels = torch.arange(100) % 4
    settings = {"num_neighbors": [3, 30], "temperature": 0.07, "num_classes": 4}
    whole = knn_votes(queries, bank, labels, **settings)
    for chunk in (1, 7, 64):
        chunked = knn_votes(queries, bank, labels, **settings, chunk=chunk)
        assert all(torch.allclose(chunked[k], whole[k]) for k in (3, 30))


@pytest.mark.parametrize("precision", ["highest", "medium"])
def test_products_are_of_full_precision(precision):
    """Also within automatic mixed precision, and with the fast matrix products of training."""
    from conmim_lightning.metrics.knn import knn_votes

    bank, queries = (torch.nn.functional.normalize(10 + torch.randn(n, 8), dim=1) for n in (100, 9))
    arguments = {"bank_labels": torch.arange(100) % 3, "num_neighbors": [5], "temperature": 0.1, "num_classes": 3}
    expected = knn_votes(queries, bank, **arguments)[5]
    torch.set_float32_matmul_precision(precision)
    try:
        with torch.autocast("cpu", torch.bfloat16):
            assert torch.equal(knn_votes(queries, bank, **arguments)[5], expected)
        assert torch.get_float32_matmul_precision() == precision
    finally:
        torch.set_float32_matmul_precision("highest")
