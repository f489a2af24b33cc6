"""A small pre-training task and batches for it."""

from functools import partial

import torch
from conftest import conmim

from conmim_lightning.batches import PretrainViews
from conmim_lightning.perturbation.apply import Perturbation
from conmim_lightning.tasks.pretrain import PretrainTask


def make_task(**changes):
    torch.manual_seed(0)
    arguments = {
        "model": conmim(),
        "perturbation": Perturbation(mean=[0.5] * 3, std=[0.25] * 3, strengths=["weak", "strong"], largest_sigma=2.0),
        "optimizer": partial(torch.optim.AdamW, lr=1e-2, weight_decay=0.05, fused=True),
        "batch_size": 4,
        "epochs": 1,
        "warmup_epochs": 0,
        "min_lr": 0.0,
        "momentum_start": 0.9,
    }
    return PretrainTask(**(arguments | changes))


def batches(count=6, bad=None):
    random = torch.Generator().manual_seed(0)
    for number in range(count):
        views = [torch.randn(4, 3, 32, 32, generator=random) for _ in range(2)]
        if number == bad:
            views[0][2] = torch.nan
        mask = torch.rand(4, 4, 4, generator=random) < 0.5
        yield PretrainViews(*views, mask, torch.arange(4) + 4 * number, (), int(mask.flatten(1).sum(1).max()))
