"""Images that are there twice: the same bytes, the same looks, or the same features."""

from collections.abc import Iterator
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

_BITS = 64
_ROWS = 2048  # compared at once


def exact_copies(digests: NDArray[np.uint64], candidates: NDArray[np.int64]) -> dict[int, int]:
    """Number of each copy and of the first image that it equals.

    Args:
        digests: (N, 2) fingerprints.
        candidates: (M,) numbers of the images to compare, ascending.
    """
    _, first, group = np.unique(digests[candidates], axis=0, return_index=True, return_inverse=True)
    return _copies(candidates, first[group.reshape(-1)])


def _copies(candidates: NDArray[np.int64], first: NDArray[np.int64]) -> dict[int, int]:
    """From the place of the first equal one of each candidate."""
    later = np.flatnonzero(first != np.arange(len(candidates)))
    return dict(zip(candidates[later].tolist(), candidates[first[later]].tolist(), strict=True))


def near_copies(looks: NDArray[np.uint64], candidates: NDArray[np.int64], bits: int) -> dict[int, int]:
    """Number of each image that looks like an earlier one, and of that one.

    Of two hashes that differ in at most ``bits`` bits at least one of ``bits`` + 1 bands is equal, so only images with
    an equal band are compared.

    Args:
        looks: (N,) perceptual hashes.
        candidates: (M,) numbers of the images to compare, ascending.
        bits: that may differ, 0 to 15.
    """
    distinct, first, group = np.unique(looks[candidates], return_index=True, return_inverse=True)
    equal = _copies(candidates, first[group])
    numbers = candidates[first]  # of the first image with each hash
    in_order = np.argsort(numbers)
    hashes, numbers = distinct[in_order], numbers[in_order]
    pairs: set[tuple[int, int]] = set()
    for band in _bands(hashes, bits):
        order = np.argsort(band, kind="stable")
        edges = np.flatnonzero(np.diff(band[order])) + 1
        for part in np.split(order, edges):
            if len(part) > 1:
                pairs.update(_close(hashes, np.sort(part), bits))
    near = _first_kept(pairs, numbers)
    return near | {copy: near.get(original, original) for copy, original in equal.items()}


def similar_features(features: NDArray[np.float32], candidates: NDArray[np.int64], least: float) -> dict[int, int]:
    """Number of each image whose feature is like that of an earlier one, and of that one (needs faiss).

    Args:
        features: (M, D) features of unit length.
        candidates: (M,) numbers of their images, ascending.
        least: cosine similarity from which on two count as copies.

    Raises:
        ValueError: faiss is missing.
    """
    try:
        import faiss
    except ImportError as error:
        raise ValueError("comparing features needs faiss: pip install 'conmim-lightning[inspect]'") from error
    index = faiss.IndexFlatIP(features.shape[1])
    index.add(features)  # type: ignore[call-arg]
    pairs = set()
    for start in range(0, len(features), _ROWS):
        limits, _, others = index.range_search(features[start : start + _ROWS], least)  # type: ignore[call-arg]
        rows = np.repeat(np.arange(len(limits) - 1), np.diff(limits.astype(np.int64))) + start
        pairs.update(zip(others[others < rows].tolist(), rows[others < rows].tolist(), strict=True))
    return _first_kept(pairs, candidates)


def _bands(hashes: NDArray[np.uint64], bits: int) -> Iterator[NDArray[np.uint64]]:
    edges = np.linspace(0, _BITS, bits + 2).astype(int)
    for low, high in pairwise(edges.tolist()):
        yield (hashes >> np.uint64(low)) & np.uint64((1 << (high - low)) - 1)


def _close(hashes: NDArray[np.uint64], group: NDArray[np.int64], bits: int) -> Iterator[tuple[int, int]]:
    """Pairs (earlier, later) of a group whose hashes differ in at most so many bits."""
    mine = hashes[group]
    for start in range(0, len(group), _ROWS):
        differing = np.bitwise_count(mine[start : start + _ROWS, None] ^ mine[None, :])
        rows, columns = np.nonzero(differing <= bits)
        rows += start
        for earlier, later in zip(rows[rows < columns].tolist(), columns[rows < columns].tolist(), strict=True):
            yield int(group[earlier]), int(group[later])


def _first_kept(pairs: set[tuple[int, int]], candidates: NDArray[np.int64]) -> dict[int, int]:
    """Each later one of a pair is a copy of the earlier one, unless that is a copy itself: chains do not reach on."""
    copies: dict[int, int] = {}
    for earlier, later in sorted(pairs, key=lambda pair: (pair[1], pair[0])):
        if later not in copies and earlier not in copies:
            copies[later] = earlier
    return {int(candidates[later]): int(candidates[earlier]) for later, earlier in copies.items()}
