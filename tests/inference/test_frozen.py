import torch

from conmim_lightning.inference.frozen import FrozenModule


class Dropping(FrozenModule):
    def __init__(self):
        super().__init__()
        self.layers = torch.nn.Sequential(torch.nn.Linear(3, 3), torch.nn.Dropout(0.5))


def test_a_module_that_stays_in_eval_mode():
    module = Dropping().freeze()
    assert not module.train().layers[1].training
    assert not any(parameter.requires_grad for parameter in module.parameters())
    assert module.device.type == "cpu"
