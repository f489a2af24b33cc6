from functools import partial
from types import SimpleNamespace

import pytest
import torch

from conmim_lightning.optim.recipe import PretrainSchedule, Schedule


def counts(**changes):
    """What a schedule reads from the Trainer: two devices, 200 steps."""
    values = {"world_size": 2, "accumulate_grad_batches": 1, "estimated_stepping_batches": 200}
    values |= {"max_epochs": 10, "max_steps": -1}
    return SimpleNamespace(**(values | changes))


def optimizer(schedule, trainer, *, lr=1e-3, batch_size=64):
    groups = [{"params": [torch.nn.Parameter(torch.zeros(2))]}]
    return schedule.optimizer(partial(torch.optim.SGD, lr=lr), groups, schedule.effective_batch(batch_size, trainer))


def test_epochs_are_fractions_of_the_steps():
    assert Schedule(epochs=10, warmup_epochs=1).warmup_steps(counts()) == 20
    assert Schedule(steps=400, warmup_steps=100).warmup_steps(counts()) == 50
    assert Schedule(epochs=10).total_steps(counts()) == 200


def test_the_learning_rate_is_scaled_by_the_effective_batch():
    schedule, trainer = Schedule(epochs=1, lr_scaling="linear", base_batch_size=256), counts(accumulate_grad_batches=4)
    assert schedule.effective_batch(64, trainer) == 512
    assert optimizer(schedule, trainer).param_groups[0]["lr"] == pytest.approx(2e-3)
    text = schedule.describe(optimizer(schedule, trainer), 64, trainer)
    assert "effective batch 512 = 64 per device x 2 devices x 4 accumulated; peak learning rate 0.002" in text


def test_the_learning_rate_ends_at_the_scaled_minimum():
    schedule = Schedule(epochs=1, min_lr=1e-4, lr_scaling="linear", base_batch_size=256)
    built = optimizer(schedule, counts())
    scheduler = schedule.lr_scheduler(built, 64, counts())
    for _ in range(200):
        built.step()
        scheduler.step()
    assert built.param_groups[0]["lr"] == pytest.approx(1e-4 * 128 / 256)


def test_a_batch_that_the_learning_rate_was_not_chosen_for_is_reported():
    schedule = Schedule(epochs=1, base_batch_size=256)
    assert "chosen for batch 256, see schedule.lr_scaling=linear" in schedule.describe(
        optimizer(schedule, counts()), 64, counts()
    )
    assert "chosen" not in schedule.describe(optimizer(schedule, counts()), 128, counts())


def test_the_momentum_of_the_teacher_rises():
    schedule = PretrainSchedule(teacher_momentum_start=0.9, teacher_momentum_end=1.0)
    momenta = [schedule.teacher_momentum(step, counts()) for step in range(200)]
    assert momenta[0] == pytest.approx(0.9)
    assert momenta[100] == pytest.approx(0.95, abs=1e-3)
    assert momenta[199] == pytest.approx(1.0, abs=1e-4)
    assert sorted(momenta) == momenta


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({}, "needs epochs or steps, and not both; got None and None"),
        ({"epochs": 1, "steps": 1}, "not both; got 1 and 1"),
        ({"epochs": 2, "warmup_epochs": 3}, r"schedule.warmup_epochs must lie between 0 and epochs, 2, got 3"),
        ({"steps": 0}, "schedule.steps must be above 0, got 0"),
        ({"epochs": 1, "name": "square"}, "schedule.name must be one of .*cosine.*, got 'square'"),
        ({"epochs": 1, "min_lr": -1.0}, r"schedule.min_lr must be at least 0, got -1.0"),
        ({"epochs": 1, "accumulate_grad_batches": 0}, "an integer of at least 1, got 0"),
        ({"epochs": 1, "accumulate_grad_batches": 1.5}, "an integer of at least 1, got 1.5"),
        ({"epochs": 1, "max_grad_norm": 0.0}, "above 0, or null for no clipping; got 0.0"),
        ({"epochs": 1, "lr_scaling": "sqrt"}, "sqrt"),
    ],
)
def test_bad_numbers(arguments, message):
    with pytest.raises(ValueError, match=message):
        Schedule(**arguments)


@pytest.mark.parametrize("momenta", [(1.1, 1.0), (0.9, -0.1)])
def test_bad_momenta(momenta):
    with pytest.raises(ValueError, match=r"teacher_momentum_end must lie in \[0, 1\]"):
        PretrainSchedule(teacher_momentum_start=momenta[0], teacher_momentum_end=momenta[1])


def test_the_trainer_must_agree():
    with pytest.raises(ValueError, match="accumulate_grad_batches is 4, the Trainer's is 2"):
        Schedule(epochs=1, accumulate_grad_batches=4).effective_batch(8, counts(accumulate_grad_batches=2))
    with pytest.raises(ValueError, match="the schedule needs an end"):
        Schedule(epochs=1).total_steps(counts(estimated_stepping_batches=float("inf")))
