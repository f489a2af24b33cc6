import torch
from probe_features import ONE_FEATURE, make_store

from conmim_lightning.probes.linear import LinearProbe


def test_a_linear_probe_does_not_depend_on_the_global_random_state():
    weights = []
    for draws in (0, 3):
        torch.rand(draws)
        probe = LinearProbe(num_classes=3, widths=ONE_FEATURE, learning_rates=[0.05], epochs=2, batch_size=64)
        probe.fit(make_store(90, 0), None, "cpu")
        weights.append(probe.heads.heads[0].weight)
    assert torch.equal(*weights)
