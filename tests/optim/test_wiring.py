from functools import partial

import pytest
import torch

from conmim_lightning.optim.wiring import build_optimizer, scaled_rate, schedule_rate


def test_linear_scaling():
    assert scaled_rate(1e-3, scaling="linear", effective_batch=512, reference_batch=2048) == pytest.approx(2.5e-4)
    assert scaled_rate(1e-3, scaling="none", effective_batch=512, reference_batch=2048) == 1e-3
    with pytest.raises(ValueError, match="sqrt"):
        scaled_rate(1e-3, scaling="sqrt", effective_batch=1, reference_batch=1)
    with pytest.raises(ValueError, match=r"got 0\.0 and 8"):
        scaled_rate(0.0, scaling="none", effective_batch=1, reference_batch=8)


def test_schedule_steps_all_groups():
    weights = [torch.nn.Parameter(torch.zeros(2)) for _ in range(2)]
    groups = [{"params": [weights[0]]}, {"params": [weights[1]], "weight_decay": 0.0}]
    optimizer = build_optimizer(
        partial(torch.optim.SGD, lr=0.4), groups, scaling="linear", effective_batch=2, reference_batch=4
    )
    scheduler = schedule_rate(optimizer, total_steps=6, warmup_steps=3, end=0.0)["lr_scheduler"]["scheduler"]
    seen = []
    for _ in range(4):
        seen.append([group["lr"] for group in optimizer.param_groups])
        optimizer.step()
        scheduler.step()
    assert [pair[0] for pair in seen] == pytest.approx([0.0, 0.1, 0.2, 0.2])
    assert all(first == second for first, second in seen)
