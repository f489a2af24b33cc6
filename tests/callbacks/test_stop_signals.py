from types import SimpleNamespace

import torch

from conmim_lightning.callbacks.stop_signals import agreed_signal


def trainer(world_size, others=()):
    def reduce(tensor, reduce_op):
        assert reduce_op == "max"
        return torch.stack([tensor, *map(torch.tensor, others)]).max()

    return SimpleNamespace(
        world_size=world_size, strategy=SimpleNamespace(root_device=torch.device("cpu"), reduce=reduce)
    )


def test_one_device_decides_alone():
    assert agreed_signal(trainer(1), 10) == 10
    assert agreed_signal(trainer(1), 0) == 0


def test_all_devices_take_the_same_signal():
    """Rank 0 has received none, another one SIGUSR1: SIGUSR1 on both, so that rank 0 requeues the job."""
    assert agreed_signal(trainer(2, [10.0]), 0) == 10
    assert agreed_signal(trainer(2, [0.0]), 10) == 10
    assert agreed_signal(trainer(2, [0.0]), 0) == 0
