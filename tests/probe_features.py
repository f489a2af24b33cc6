"""Features of overlapping classes, for the tests of the probes."""

import torch

from conmim_lightning.probes.feature_store import FeatureStore

WIDTHS = {"last1_mean": 12, "pixels": 4}
ONE_FEATURE = {"last1_mean": 12}


def make_features(count: int, seed: int) -> tuple[dict[str, torch.Tensor], torch.Tensor]:
    """Three overlapping classes in "last1_mean"; nothing in "pixels"."""
    random = torch.Generator().manual_seed(seed)
    labels = torch.arange(count) % 3
    centres = 1.2 * torch.randn(3, 12, generator=torch.Generator().manual_seed(9))
    features = centres[labels] + 1.5 * torch.randn(count, 12, generator=random) + 3
    return {"last1_mean": features, "pixels": torch.randn(count, 4, generator=random)}, labels


def make_store(count: int, seed: int) -> FeatureStore:
    features, labels = make_features(count, seed)
    store = FeatureStore(count, WIDTHS)
    for start in range(0, count, 50):
        store.add({name: values[start : start + 50] for name, values in features.items()}, labels[start : start + 50])
    return store
