"""Nearest neighbours of images."""

import torch
from torch.nn import functional as F

from conmim_lightning.inference.models import LoadedEncoder
from conmim_lightning.visualization.inputs import Inputs, evenly_spaced
from conmim_lightning.visualization.panels import Panel


@torch.no_grad()
def neighbor_panels(model: LoadedEncoder, gallery: Inputs, queries: int, neighbors: int) -> list[list[Panel]]:
    """Return, per query, the query and its nearest neighbours among the other images, with their cosines.

    Args:
        model: model whose features are compared, see ``LoadedEncoder.features``.
        gallery: all images.
        queries: number of queries, evenly spaced over the images.
        neighbors: neighbours per query.

    Raises:
        ValueError: there are fewer than two images, or a number is below 1.
    """
    if neighbors < 1:
        raise ValueError(f"neighbors must be at least 1, got {neighbors}")
    count = len(gallery.names)
    if count < 2:
        raise ValueError(f"neighbours need at least 2 readable images, got {count}")
    features = F.normalize(model.features(gallery.images).cpu(), dim=-1)
    panels = []
    for query in evenly_spaced(count, queries):
        cosines = features @ features[query]
        cosines[query] = -torch.inf
        best = cosines.topk(min(neighbors, count - 1))
        own = [
            Panel(gallery.shown[index], f"{value:.3f}")
            for value, index in zip(best.values.tolist(), best.indices.tolist(), strict=True)
        ]
        panels.append([Panel(gallery.shown[query], "query"), *own])
    return panels
