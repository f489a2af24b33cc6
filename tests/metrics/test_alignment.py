import pytest
import torch
from conftest import conmim

from conmim_lightning.metrics.alignment import alignment, effective_rank, relative_distance


def test_by_hand():
    # Image 0: patch 0 hidden and retrieved; image 1: patch 1 hidden and confused with patch 0.
    keys = torch.tensor([[[1.0, 0.0], [0.0, 1.0]], [[1.0, 0.0], [0.0, 1.0]]])
    queries = torch.tensor([[[2.0, 0.0], [0.0, 1.0]], [[0.0, 1.0], [1.0, 0.0]]])
    metrics = alignment(queries, keys, torch.tensor([[True, False], [False, True]]))
    assert metrics["retrieval_top1"] == 0.5
    assert metrics["positive_similarity"] == 0.5
    assert metrics["hardest_negative_similarity"] == 0.5


def test_position_explains_keys_shared_by_all_images():
    keys = torch.randn(1, 9, 6).expand(5, 9, 6)
    mask = torch.ones(5, 3, 3, dtype=torch.bool)
    metrics = alignment(keys, keys, mask)
    assert metrics["retrieval_top1"] == metrics["position_only_top1"] == metrics["position_only_fraction"] == 1


def test_position_explains_nothing_of_independent_keys():
    keys = torch.randn(64, 16, 32, generator=torch.Generator().manual_seed(0))
    metrics = alignment(keys, keys, torch.ones(64, 16, dtype=torch.bool))
    assert metrics["retrieval_top1"] == 1
    assert metrics["position_only_top1"] < 0.12


def test_collapse_is_visible():
    spread = torch.randn(16, 9, 8, generator=torch.Generator().manual_seed(0))
    mask = torch.ones(16, 9, dtype=torch.bool)
    healthy = alignment(spread, spread, mask)
    assert healthy["key_spread"] == pytest.approx(1, abs=0.1)
    assert healthy["key_rank"] > 7
    collapsed = torch.ones(16, 9, 8) + 1e-3 * spread
    ill = alignment(collapsed, collapsed, mask)
    assert ill["key_spread"] < 0.01


def test_effective_rank_of_equal_directions():
    assert effective_rank(torch.eye(8)).item() == pytest.approx(7, rel=1e-4)  # centred: one direction less
    assert effective_rank(torch.outer(torch.arange(5.0), torch.ones(4))).item() == pytest.approx(1, abs=1e-3)


def test_relative_distance():
    one, other = conmim().student, conmim().student
    assert relative_distance(one, one) == 0
    for parameter, value in zip(one.parameters(), other.parameters(), strict=True):
        parameter.data = 1.5 * value.data
    assert relative_distance(one, other).item() == pytest.approx(0.5, rel=1e-4)


def test_rank_of_non_finite_vectors_is_nan():
    vectors = torch.randn(8, 4)
    vectors[3, 1] = torch.inf
    assert effective_rank(vectors).isnan()
