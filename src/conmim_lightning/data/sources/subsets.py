"""Subsets per class, for training with few labels and for held-out images."""

import numpy as np
from numpy.typing import NDArray

from conmim_lightning.data.sources.base import FileSource, Source, Subset


def check_subset(fraction: float | None, count: int | None) -> None:
    """Raise ValueError unless exactly one of fraction and count is given and in its range."""
    if (fraction is None) == (count is None):
        raise ValueError(
            f"a subset needs a fraction or a count per class, not both, got fraction={fraction} and count={count}"
        )
    if (fraction is not None and not 0 < fraction <= 1) or (count is not None and count < 1):
        raise ValueError(f"a subset's fraction must lie in (0, 1] and its count be at least 1, got {fraction or count}")


def per_class(source: Source, *, fraction: float | None = None, count: int | None = None, seed: int = 0) -> Subset:
    """Sample some images of each class.

    Args:
        source: source with labels.
        fraction: fraction of each class's images, in (0, 1]; at least one image per class.
        count: number of images per class, >= 1; all images of a class that has fewer.
        seed: seed of the sample.

    Raises:
        ValueError: not exactly one of fraction and count is given, or it is out of its range, or there are no labels.
    """
    check_subset(fraction, count)
    if not source.classes:
        raise ValueError(f"a subset per class needs labels, and {source.root!r} has none")
    labels = labels_of(source)
    rng = np.random.default_rng(seed)
    chosen = []
    for label in range(len(source.classes)):
        members = rng.permutation(np.flatnonzero(labels == label))
        size = count if fraction is None else max(1, round(fraction * len(members)))
        chosen.append(members[:size])
    return Subset(source, np.sort(np.concatenate(chosen)))


def labels_of(source: Source) -> NDArray[np.int64]:
    """Return the (N,) classes of all images of a source with labels."""
    if isinstance(source, Subset):
        return labels_of(source.source)[source.indices]
    if isinstance(source, FileSource) and source.labels is not None:
        return source.labels.astype(np.int64)
    return np.fromiter((source.label(index) for index in range(len(source))), np.int64, len(source))


def hold_out(source: Source, *, fraction: float, seed: int = 0) -> tuple[Subset, Subset]:
    """Split a source into the images that remain and a held-out sample of each class.

    Args:
        source: source with labels.
        fraction: fraction of each class's images to hold out, in (0, 1); at least one image per class.
        seed: seed of the sample.

    Raises:
        ValueError: fraction is out of its range, or a class has a single image.
    """
    if not 0 < fraction < 1:
        raise ValueError(f"held_out_fraction must lie in (0, 1), got {fraction}")
    labels = labels_of(source)
    counts = np.bincount(labels, minlength=len(source.classes))
    if len(single := np.flatnonzero(counts == 1)):
        name = source.classes[single[0]]
        raise ValueError(f"class {name!r} has one image, which cannot be held out; set held_out_fraction to 0")
    held = per_class(source, fraction=fraction, seed=seed).indices
    rest = np.setdiff1d(np.arange(len(source)), held)
    return Subset(source, rest), Subset(source, held)
