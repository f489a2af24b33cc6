import pytest
import torch

from conmim_lightning.optim.build import lr_scheduler
from conmim_lightning.optim.resumable_lr import Plan
from conmim_lightning.optim.schedules import warmup_cosine

EPOCHS = 4


def make(steps_per_epoch, *, lr=0.4, epochs=EPOCHS, batch=8, by_steps=False):
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=lr)
    plan = Plan(steps_per_epoch * epochs, None if by_steps else steps_per_epoch, batch)
    lines = []
    made = lr_scheduler(optimizer, plan=plan, warmup_steps=plan.total_steps // 4, min_lr=0.0, report=lines.append)
    return optimizer, made, lines


def steps(optimizer, scheduler, count):
    rates = []
    for _ in range(count):
        rates.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        scheduler.step()
    return rates


def resume(into, optimizer, scheduler):
    """As Lightning does: the optimizer's state first, with its learning rates."""
    into[0].load_state_dict(optimizer.state_dict())
    into[1].load_state_dict(scheduler.state_dict())
    return into


def test_the_same_plan_continues_bit_for_bit_and_says_nothing():
    whole = steps(*make(6)[:2], 24)
    first = make(6)
    rates = steps(*first[:2], 11)
    second = resume(make(6), *first[:2])
    assert rates + steps(*second[:2], 13) == whole
    assert not second[2]
    assert second[1].planned_steps == 24


@pytest.mark.parametrize(("other", "batch"), [(3, 16), (12, 4)])
def test_another_batch_size_follows_the_epochs_done(other, batch):
    """After half of the epochs, the rate is that of the middle of the schedule, and it reaches its end."""
    first = make(6)
    steps(*first[:2], 12)
    optimizer, scheduler, lines = resume(make(other, batch=batch), *first[:2])
    total = other * EPOCHS
    expected = [
        warmup_cosine(step, total_steps=total, warmup_steps=total // 4, peak=0.4, end=0.0)
        for step in range(total // 2, total)
    ]
    assert steps(optimizer, scheduler, total // 2) == pytest.approx(expected)
    assert scheduler.planned_steps == 12 + total // 2
    assert len(lines) == 1
    assert f"effective batch {batch} instead of 8" in lines[0]
    assert f"steps per epoch {other} instead of 6" in lines[0]
    assert "50.0% of the schedule is done" in lines[0]
    assert f"the run ends after step {12 + total // 2}" in lines[0]


def test_two_changes_in_a_row():
    first = make(6)
    steps(*first[:2], 12)
    second = resume(make(3, batch=16), *first[:2])
    steps(*second[:2], 3)  # three of four epochs
    third = resume(make(6), *second[:2])
    assert third[1].shift == 18 - 15
    assert "75.0% of the schedule is done" in third[2][0]


def test_an_extended_run_says_how_the_schedule_is_stretched():
    first = make(6)
    steps(*first[:2], 12)
    _, scheduler, lines = resume(make(6, epochs=8), *first[:2])
    assert scheduler.shift == 0
    assert "planned steps 48 instead of 24" in lines[0]
    assert "25.0% of the schedule is done" in lines[0]


def test_a_run_in_steps_follows_its_steps():
    first = make(6, by_steps=True)
    steps(*first[:2], 12)
    _, scheduler, lines = resume(make(6, batch=16, by_steps=True), *first[:2])
    assert scheduler.shift == 0
    assert "effective batch 16 instead of 8" in lines[0]


def test_another_learning_rate_holds_from_the_first_step():
    first = make(6)
    steps(*first[:2], 12)
    optimizer, _, lines = resume(make(6, lr=0.8), *first[:2])
    assert optimizer.param_groups[0]["lr"] == pytest.approx(2 * first[0].param_groups[0]["lr"])
    assert "learning rate" in lines[0]


def test_the_state_has_plain_values(tmp_path):
    torch.save(make(6)[1].state_dict(), tmp_path / "state.pt")
    assert torch.load(tmp_path / "state.pt", weights_only=True)["plan"] == (24, 6, 8)
