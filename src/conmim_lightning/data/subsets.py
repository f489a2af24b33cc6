"""Few labels: some images of each class."""

import numpy as np

from conmim_lightning.data.sources import Source, Subset


def check_subset(share: float | None, count: int | None) -> None:
    """Raise ValueError unless exactly one is given and in its range."""
    if (share is None) == (count is None):
        raise ValueError(f"a subset needs a share or a count a class, not both, got share={share} and count={count}")
    if (share is not None and not 0 < share <= 1) or (count is not None and count < 1):
        raise ValueError(f"a subset's share must lie in (0, 1] and its count be at least 1, got {share or count}")


def per_class(source: Source, *, share: float | None = None, count: int | None = None, seed: int = 0) -> Subset:
    """Some images of each class, drawn by seed; for work with few labels.

    Args:
        source: a labelled one.
        share: of each class's images, in (0, 1]; at least one image a class.
        count: images a class, >= 1; a class that has fewer gives all.
        seed: of the draw.

    Raises:
        ValueError: not exactly one of share and count is given, or it is out of its range, or there are no labels.
    """
    check_subset(share, count)
    if not source.classes:
        raise ValueError(f"a subset a class needs labels, and {source.root!r} has none")
    labels = np.fromiter((source.label(index) for index in range(len(source))), np.int64, len(source))
    random = np.random.default_rng(seed)
    kept = []
    for label in range(len(source.classes)):
        members = random.permutation(np.flatnonzero(labels == label))
        number = count if share is None else max(1, round(share * len(members)))
        kept.append(members[:number])
    return Subset(source, np.sort(np.concatenate(kept)))
