from functools import partial

import pytest
import torch

from conmim_lightning.optim.build import build_optimizer, lr_scheduler, scale_lr
from conmim_lightning.optim.resumable_lr import Plan


def test_linear_scaling():
    assert scale_lr(1e-3, scaling="linear", effective_batch=512, base_batch_size=2048) == pytest.approx(2.5e-4)
    assert scale_lr(1e-3, scaling="none", effective_batch=512, base_batch_size=2048) == 1e-3
    with pytest.raises(ValueError, match="sqrt"):
        scale_lr(1e-3, scaling="sqrt", effective_batch=1, base_batch_size=1)
    with pytest.raises(ValueError, match=r"got 0\.0 and 8"):
        scale_lr(0.0, scaling="none", effective_batch=1, base_batch_size=8)


def test_scheduler_steps_all_groups():
    weights = [torch.nn.Parameter(torch.zeros(2)) for _ in range(2)]
    groups = [{"params": [weights[0]]}, {"params": [weights[1]], "weight_decay": 0.0}]
    optimizer = build_optimizer(
        partial(torch.optim.SGD, lr=0.4), groups, scaling="linear", effective_batch=2, base_batch_size=4
    )
    scheduler = lr_scheduler(optimizer, plan=Plan(6, 6, 2), warmup_steps=3, min_lr=0.0)
    rates = []
    for _ in range(4):
        rates.append([group["lr"] for group in optimizer.param_groups])
        optimizer.step()
        scheduler.step()
    assert [pair[0] for pair in rates] == pytest.approx([0.0, 0.1, 0.2, 0.2])
    assert all(first == second for first, second in rates)
