"""Some images of each class: for few labels, and to hold out."""

import numpy as np
from numpy.typing import NDArray

from conmim_lightning.data.sources import FileSource, Source, Subset


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
    labels = labels_of(source)
    random = np.random.default_rng(seed)
    kept = []
    for label in range(len(source.classes)):
        members = random.permutation(np.flatnonzero(labels == label))
        number = count if share is None else max(1, round(share * len(members)))
        kept.append(members[:number])
    return Subset(source, np.sort(np.concatenate(kept)))


def labels_of(source: Source) -> NDArray[np.int64]:
    """(N,) classes of all images of a labelled source."""
    if isinstance(source, Subset):
        return labels_of(source.source)[source.indices]
    if isinstance(source, FileSource) and source.labels is not None:
        return source.labels.astype(np.int64)
    return np.fromiter((source.label(index) for index in range(len(source))), np.int64, len(source))


def held_out(source: Source, *, share: float, seed: int = 0) -> tuple[Subset, Subset]:
    """A labelled source without, and only, a share of each class's images, drawn by seed.

    Args:
        source: a labelled one.
        share: of each class's images that is held out, in (0, 1); at least one image a class.
        seed: of the draw.

    Raises:
        ValueError: share is out of its range, or a class has a single image.
    """
    if not 0 < share < 1:
        raise ValueError(f"held_out_share must lie in (0, 1), got {share}")
    labels = labels_of(source)
    counts = np.bincount(labels, minlength=len(source.classes))
    if len(single := np.flatnonzero(counts == 1)):
        name = source.classes[single[0]]
        raise ValueError(f"nothing can be held out of class {name!r}, which has one image; set held_out_share to 0")
    held = per_class(source, share=share, seed=seed).indices
    rest = np.setdiff1d(np.arange(len(source)), held)
    return Subset(source, rest), Subset(source, held)
