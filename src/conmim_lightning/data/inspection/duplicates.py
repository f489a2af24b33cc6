"""Duplicate images: with equal bytes, with similar perceptual hashes, or with similar features."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

_BITS = 64
_ROWS = 2048  # vectors that are compared at once


def exact_duplicates(digests: NDArray[np.uint64], candidates: NDArray[np.int64]) -> dict[int, int]:
    """Map the index of each duplicate to the index of the first image with the same bytes.

    Args:
        digests: (N, 2) digests of the images' bytes.
        candidates: (M,) indices of the images to compare, ascending.
    """
    _, first, group = np.unique(digests[candidates], axis=0, return_index=True, return_inverse=True)
    return _later_to_first(candidates, first[group.reshape(-1)])


def near_duplicates(hashes: NDArray[np.uint64], candidates: NDArray[np.int64], bits: int) -> dict[int, int]:
    """Map the index of each image that looks like an earlier image to the index of the earlier image.

    Two hashes that differ in at most ``bits`` bits agree in at least one of ``bits`` + 1 disjoint substrings.
    faiss' multi-index hashing therefore finds all pairs.

    Args:
        hashes: (N,) perceptual hashes.
        candidates: (M,) indices of the images to compare, ascending.
        bits: largest number of differing bits, 0 to 15.

    Raises:
        ValueError: faiss is not installed.
    """
    _, first, group = np.unique(hashes[candidates], return_index=True, return_inverse=True)
    equal = _later_to_first(candidates, first[group])
    distinct = candidates[np.sort(first)]  # the first image of each hash
    pairs: set[tuple[int, int]] = set()
    if bits:
        substrings = bits + 1
        index = _faiss().IndexBinaryMultiHash(_BITS, substrings, _BITS // substrings)
        pairs = _close_pairs(index, hashes[distinct].view(np.uint8).reshape(-1, _BITS // 8), bits + 1)
    near = _without_chains(pairs, distinct)
    return near | {later: near.get(earlier, earlier) for later, earlier in equal.items()}


def similar_features(features: NDArray[np.float32], candidates: NDArray[np.int64], threshold: float) -> dict[int, int]:
    """Map the index of each image with features similar to an earlier image's to the index of the earlier image.

    Args:
        features: (M, D) features of unit length.
        candidates: (M,) indices of the features' images, ascending.
        threshold: smallest cosine similarity of duplicates.

    Raises:
        ValueError: faiss is not installed.
    """
    index = _faiss().IndexFlatIP(features.shape[1])
    return _without_chains(_close_pairs(index, features, threshold), candidates)


def _faiss() -> Any:
    try:
        import faiss
    except ImportError as error:
        raise ValueError("finding similar images needs faiss: pip install 'conmim-lightning[inspect]'") from error
    return faiss


def _close_pairs(index: Any, vectors: NDArray[Any], radius: float) -> set[tuple[int, int]]:
    """Pairs (earlier, later) of vectors within a radius of each other."""
    index.add(vectors)
    pairs: set[tuple[int, int]] = set()
    for start in range(0, len(vectors), _ROWS):
        limits, _, others = index.range_search(vectors[start : start + _ROWS], radius)
        rows = np.repeat(np.arange(len(limits) - 1), np.diff(limits.astype(np.int64))) + start
        earlier = others < rows
        pairs.update(zip(others[earlier].tolist(), rows[earlier].tolist(), strict=True))
    return pairs


def _later_to_first(candidates: NDArray[np.int64], first: NDArray[np.int64]) -> dict[int, int]:
    """Map each duplicate to the first equal image, given the position of each candidate's first equal candidate."""
    later = np.flatnonzero(first != np.arange(len(candidates)))
    return dict(zip(candidates[later].tolist(), candidates[first[later]].tolist(), strict=True))


def _without_chains(pairs: set[tuple[int, int]], candidates: NDArray[np.int64]) -> dict[int, int]:
    """Map the later image of each pair to the earlier image, unless the earlier image is a duplicate itself."""
    duplicates: dict[int, int] = {}
    for earlier, later in sorted(pairs, key=lambda pair: (pair[1], pair[0])):
        if later not in duplicates and earlier not in duplicates:
            duplicates[later] = earlier
    return {int(candidates[later]): int(candidates[earlier]) for later, earlier in duplicates.items()}
