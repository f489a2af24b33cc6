import numpy as np
import pytest

from conmim_lightning.data.inspection.duplicates import exact_duplicates, near_duplicates, similar_features


def test_exact_duplicates_point_to_the_first():
    digests = np.asarray([(1, 2), (1, 3), (0, 0), (1, 2), (0, 0), (1, 2)], np.uint64)
    assert exact_duplicates(digests, np.asarray([0, 1, 3, 5])) == {3: 0, 5: 0}


def naive(hashes, candidates, bits):
    """Compare all pairs."""
    duplicates = {}
    for later, number in enumerate(candidates):
        for earlier in candidates[:later]:
            if earlier not in duplicates and bin(int(hashes[earlier]) ^ int(hashes[number])).count("1") <= bits:
                duplicates[int(number)] = int(earlier)
                break
    return duplicates


@pytest.mark.parametrize("bits", [0, 1, 3, 7, 15])
def test_near_duplicates_equal_the_comparison_of_all_pairs(bits):
    random = np.random.default_rng(bits)
    hashes = random.integers(0, 1 << 63, 300, dtype=np.uint64)
    for number in range(100):  # near ones, at all distances around the limit
        flips = random.permutation(64)[: random.integers(0, 2 * bits + 2)]
        hashes[200 + number] = hashes[random.integers(200 + number)] ^ np.uint64(sum(1 << int(flip) for flip in flips))
    candidates = np.sort(random.permutation(300)[:280])
    result = near_duplicates(hashes, candidates, bits)
    assert result == naive(hashes, candidates, bits)
    assert result


def test_chains_are_not_followed():
    hashes = np.asarray([0, 1, 3, 7, 15], np.uint64)  # each one bit from the next
    assert near_duplicates(hashes, np.arange(5), 1) == {1: 0, 3: 2}


def test_many_equal_hashes(monkeypatch):
    monkeypatch.setattr("conmim_lightning.data.inspection.duplicates._ROWS", 7)
    hashes = np.repeat(
        np.asarray([1 << 40, 0, 3], np.uint64), 20_000
    )  # two of them near each other, each thousands of times
    result = near_duplicates(hashes, np.arange(60_000), 1)
    assert len(result) == 59_998
    assert set(result.values()) == {0, 40_000}


def test_similar_features(monkeypatch):
    monkeypatch.setattr("conmim_lightning.data.inspection.duplicates._ROWS", 3)
    angles = np.asarray([0, 90, 1, 45, 91, 180], np.float32) / 180 * np.pi
    features = np.stack([np.cos(angles), np.sin(angles)], 1).astype(np.float32)
    assert similar_features(features, np.asarray([2, 3, 5, 7, 8, 9]), 0.99) == {5: 2, 8: 3}
