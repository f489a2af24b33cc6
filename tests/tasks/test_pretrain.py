"""The task with Lightning's Trainer."""

from functools import partial
from pathlib import Path
from types import SimpleNamespace

import pretraining
import pytest
import torch
from conftest import conmim
from lightning import Callback
from pretraining import make_batches
from torch.utils.data import DataLoader

from conmim_lightning.callbacks.non_finite_dump import NonFiniteDump
from conmim_lightning.optim.non_finite import NonFiniteError
from conmim_lightning.perturbation.apply import Perturbation
from conmim_lightning.tasks.pretrain import PretrainTask


def make_task(**changes):
    """With metrics at every step, without perturbation, and with an optimizer that is not fused."""
    arguments = {
        "perturbation": Perturbation(mean=[0.5] * 3, std=[0.25] * 3, strengths=("weak", "weak"), largest_sigma=2),
        "optimizer": partial(torch.optim.AdamW, lr=1e-2, weight_decay=0.05),
        "epochs": 2,
        "log_every_n_steps": 1,
    }
    return pretraining.make_task(**(arguments | changes))


fit = partial(pretraining.fit, max_epochs=2)


class Watch(Callback):
    """Record the class tokens of teacher and student at the end of each batch."""

    def __init__(self):
        self.teacher, self.student, self.metrics = [], [], []

    def on_train_batch_end(self, trainer, task, outputs, batch, batch_idx):
        model = task.model
        self.teacher.append(model.teacher.branch.encoder.backbone.cls_token.detach().clone())
        self.student.append(model.student.encoder.backbone.cls_token.detach().clone())
        self.metrics.append({name: float(value) for name, value in trainer.callback_metrics.items()})


@pytest.mark.parametrize("accumulate", [1, 3])
def test_the_teacher_is_updated_once_per_optimizer_step(accumulate):
    task, watch = make_task(), Watch()
    start = task.model.student.encoder.backbone.cls_token.detach().clone()
    fit(task, make_batches(), watch, accumulate_grad_batches=accumulate)
    steps = 12 // accumulate
    assert task.trainer.global_step == steps
    teacher = start
    for batch in range(12):
        if (batch + 1) % accumulate == 0:
            momentum = 0.9 + 0.1 * (1 - torch.cos(torch.tensor(torch.pi * (batch // accumulate) / steps))) / 2
            teacher = momentum * teacher + (1 - momentum) * watch.student[batch]
        torch.testing.assert_close(watch.teacher[batch], teacher)


def test_two_half_batches_accumulate_to_the_gradient_of_their_mean():
    # With BatchNorm, a batch is not the sum of its halves; two equal batches have the gradient of one.
    batches = list(make_batches(1))
    once, twice = make_task(), make_task()
    fit(once, DataLoader(batches, batch_size=None), max_epochs=1)
    fit(twice, DataLoader(batches * 2, batch_size=None), max_epochs=1, accumulate_grad_batches=2)
    for one, other in zip(once.model.student.parameters(), twice.model.student.parameters(), strict=True):
        torch.testing.assert_close(one, other)


def test_logged_metrics():
    task, watch = make_task(), Watch()
    fit(task, make_batches(), watch)
    assert set(watch.metrics[-1]) == {
        "train/loss",
        "train/retrieval_top1",
        "train/position_only_top1",
        "train/position_only_fraction",
        "train/positive_similarity",
        "train/hardest_negative_similarity",
        "train/key_spread",
        "train/key_rank",
        "train/teacher_distance",
        "optim/lr",
        "optim/teacher_momentum",
        "optim/grad_norm",
    }
    assert watch.metrics[0]["optim/lr"] == pytest.approx(1e-2)
    assert watch.metrics[0]["optim/teacher_momentum"] == pytest.approx(0.9)


def test_momentum_zero_keeps_the_teacher_equal_to_the_student():
    task, watch = make_task(teacher_momentum_start=0.0, teacher_momentum_end=0.0), Watch()
    fit(task, make_batches(), watch)
    assert all(torch.equal(one, other) for one, other in zip(watch.teacher, watch.student, strict=True))


def test_a_non_finite_loss_ends_the_run_with_a_dump(tmp_path: Path):
    task = make_task()
    with (
        pytest.raises(
            NonFiniteError, match=r"nan at step 3 in epoch 0; loss \[nan\] of samples \[12, 13, 14, 15\] on rank 0"
        ),
        pytest.warns(UserWarning, match="wrote the batches and the weights"),
    ):
        fit(task, make_batches(bad=3), NonFiniteDump(str(tmp_path)))
    dump = torch.load(tmp_path / "non_finite_step3_rank0.pt", weights_only=True)
    assert len(dump["batches"]) == 1
    assert dump["batches"][0]["student_view"][2].isnan().all()
    assert dump["batches"][0]["index"].tolist() == [12, 13, 14, 15]
    assert all(value.isfinite().all() for name, value in dump["model"].items() if "running" not in name)


def test_non_finite_names_the_samples_of_all_accumulated_batches(tmp_path: Path):
    with pytest.raises(NonFiniteError, match=r"samples \[0, 1, 2, 3, 4, 5, 6, 7\]"):
        fit(make_task(), make_batches(bad=0), accumulate_grad_batches=2)


def test_non_finite_keys_are_reported_at_a_step_with_metrics():
    batches = list(make_batches())
    batches[2].teacher_view[1] = torch.inf
    with pytest.raises(NonFiniteError, match=r"samples \[8, 9, 10, 11\]"):
        fit(make_task(log_every_n_steps=1), DataLoader(batches, batch_size=None))


@pytest.mark.parametrize("limit", [0, -1.0])
def test_clipping_to_zero_is_rejected(limit):
    task = make_task()
    task._trainer = SimpleNamespace(precision_plugin=SimpleNamespace())  # type: ignore[assignment]
    with pytest.raises(ValueError, match=f"above 0, or null for no clipping; got {limit}"):
        task.configure_gradient_clipping(SimpleNamespace(), limit)  # type: ignore[arg-type]


def test_a_non_finite_step_may_be_skipped():
    task, watch = make_task(on_non_finite="skip"), Watch()
    with pytest.warns(UserWarning, match=r"at step 3 .*samples \[12, 13, 14, 15\] on rank 0; this step is skipped"):
        fit(task, make_batches(bad=3), watch, max_epochs=1)
    assert task.guard.skipped == 1
    assert all(watch.metrics[step]["optim/skipped_steps"] == 1 for step in (3, 4, 5)), "logged at every later step"
    assert torch.equal(watch.student[3], watch.student[2])
    assert torch.equal(watch.teacher[3], watch.teacher[2])
    assert not torch.equal(watch.student[4], watch.student[3])
    assert all(parameter.isfinite().all() for parameter in task.model.parameters())


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"warmup_epochs": 5}, "warmup_epochs must lie between 0 and epochs, 2, got 5"),
        ({"teacher_momentum_start": 1.5}, "1.5"),
        ({"on_non_finite": "ignore"}, "ignore"),
        ({"min_lr": -1.0}, "-1.0"),
        ({"lr_scaling": "square"}, "square"),
        ({"base_batch_size": 0}, "and 0"),
    ],
)
def test_bad_arguments(changes, message):
    with pytest.raises(ValueError, match=message):
        make_task(**changes)


def test_the_defaults_are_the_published_recipe():
    task = PretrainTask(conmim())
    optimizer = task.make_optimizer(2048)
    assert (task.loss.temperature, task.schedule.length, task.schedule.max_grad_norm) == (0.1, 300, 1.0)
    assert (optimizer.defaults["lr"], optimizer.defaults["betas"], optimizer.defaults["weight_decay"]) == (
        7.5e-4,
        (0.9, 0.98),
        0.05,
    )
    assert task.perturbation.strengths == ("weak", "strong")


def test_a_checkpoint_of_another_architecture():
    state = make_task(model=conmim(depth=3, embed_dim=8)).state_dict()
    with pytest.raises(
        ValueError, match=r"another architecture \(\d+ tensors of another shape, 0 missing, \d+ unknown\)"
    ):
        make_task().on_load_checkpoint({"state_dict": state})


def test_clipping_by_value_is_rejected():
    task = make_task()
    with pytest.raises(ValueError, match="'value'"):
        task.configure_gradient_clipping(SimpleNamespace(), 1.0, "value")  # type: ignore[arg-type]


def test_forward_returns_the_teachers_patch_tokens():
    assert make_task()(torch.randn(2, 3, 32, 32)).shape == (2, 16, 16)


def test_no_gradients_are_stored_between_steps():
    """Lightning frees them after the next forward passes, where memory is at its peak."""

    class Gradients(Callback):
        def __init__(self):
            self.stored = []

        def on_train_batch_end(self, trainer, pl_module, outputs, batch, batch_idx):
            self.stored.append(any(parameter.grad is not None for parameter in pl_module.parameters()))

    for accumulate, stored in ((1, [False] * 6), (2, [True, False] * 3)):  # of each of two epochs
        gradients = Gradients()
        fit(make_task(), make_batches(), gradients, accumulate_grad_batches=accumulate)
        assert gradients.stored == 2 * stored
