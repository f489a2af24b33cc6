import numpy as np
import pytest

from conmim_lightning.data.duplicates import exact_copies, near_copies, similar_features


def test_exact_copies_point_to_the_first():
    digests = np.asarray([(1, 2), (1, 3), (0, 0), (1, 2), (0, 0), (1, 2)], np.uint64)
    assert exact_copies(digests, np.asarray([0, 1, 3, 5])) == {3: 0, 5: 0}


def naive(looks, candidates, bits):
    """Every pair, one by one."""
    copies = {}
    for later, number in enumerate(candidates):
        for earlier in candidates[:later]:
            if earlier not in copies and bin(int(looks[earlier]) ^ int(looks[number])).count("1") <= bits:
                copies[int(number)] = int(earlier)
                break
    return copies


@pytest.mark.parametrize("bits", [0, 1, 3, 7, 15])
def test_near_copies_are_those_of_all_pairs(bits):
    random = np.random.default_rng(bits)
    looks = random.integers(0, 1 << 63, 300, dtype=np.uint64)
    for number in range(100):  # some near ones, at every distance about the limit
        flips = random.permutation(64)[: random.integers(0, 2 * bits + 2)]
        looks[200 + number] = looks[random.integers(200 + number)] ^ np.uint64(sum(1 << int(flip) for flip in flips))
    candidates = np.sort(random.permutation(300)[:280])
    found = near_copies(looks, candidates, bits)
    assert found == naive(looks, candidates, bits)
    assert found


def test_chains_do_not_reach_on():
    looks = np.asarray([0, 1, 3, 7, 15], np.uint64)  # each one bit from the next
    assert near_copies(looks, np.arange(5), 1) == {1: 0, 3: 2}


def test_many_equal_ones(monkeypatch):
    monkeypatch.setattr("conmim_lightning.data.duplicates._ROWS", 7)
    looks = np.repeat(np.asarray([1 << 40, 0, 3], np.uint64), 20_000)  # two of them near, each thousands of times
    found = near_copies(looks, np.arange(60_000), 1)
    assert len(found) == 59_998
    assert set(found.values()) == {0, 40_000}


def test_similar_features(monkeypatch):
    monkeypatch.setattr("conmim_lightning.data.duplicates._ROWS", 3)
    angles = np.asarray([0, 90, 1, 45, 91, 180], np.float32) / 180 * np.pi
    features = np.stack([np.cos(angles), np.sin(angles)], 1).astype(np.float32)
    assert similar_features(features, np.asarray([2, 3, 5, 7, 8, 9]), 0.99) == {5: 2, 8: 3}
