import torch
from torch import nn

from conmim_lightning.models.unchanged import unchanged


def test_buffers_modes_and_random_numbers_are_restored():
    model = nn.Sequential(nn.BatchNorm1d(3), nn.Dropout(0.5), nn.SyncBatchNorm(3)).train()
    before, random = {name: value.clone() for name, value in model.named_buffers()}, torch.get_rng_state()
    with unchanged(model, model[1]):
        assert [module.training for module in model] == [True, False, False], "other devices do not take part"
        model[0](torch.randn(4, 3))
        assert not torch.equal(model[0].running_mean, before["0.running_mean"])
    assert all(torch.equal(value, before[name]) for name, value in model.named_buffers())
    assert all(module.training for module in model.modules())
    assert torch.equal(torch.get_rng_state(), random)
