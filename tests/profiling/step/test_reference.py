"""Our step equals the reference step: loss, gradients, and the weights after three steps."""

import copy
import shutil
from functools import partial

import pytest
import torch
import torch._dynamo.utils
import torch._functorch.config as functorch
from conftest import conmim
from pretraining import drawn, fit, flat, make_batches, make_task

from conmim_lightning.models.attention import IMPLEMENTATIONS, sdpa
from conmim_lightning.optim.recipe import PretrainSchedule
from conmim_lightning.perturbation.apply import Perturbation
from conmim_lightning.profiling.step.reference import ReferenceStep, reference_branch, reference_loss
from conmim_lightning.profiling.step.train_step import TrainStep
from conmim_lightning.tasks.pretrain import PretrainTask


@pytest.fixture(autouse=True)
def _no_compiler_cache():
    """Caches on the disk lack the gradients of our own operators."""
    torch.compiler.reset()
    torch._dynamo.utils.counters.clear()
    with functorch.patch(enable_autograd_cache=False):
        yield


def task_of(model, optimizer=None, max_grad_norm=None):
    return PretrainTask(
        model=model,
        perturbation=Perturbation(mean=[0.5] * 3, std=[0.25] * 3, strengths=["weak", "strong"], largest_sigma=2.0),
        optimizer=optimizer or partial(torch.optim.AdamW, lr=1e-3, fused=True),
        batch_size=4,
        schedule=PretrainSchedule(epochs=1, warmup_epochs=0, min_lr=0.0, max_grad_norm=max_grad_norm),
    )


@pytest.mark.parametrize("batch", [2, 5])
@pytest.mark.parametrize("img_size", [24, 32, 56])  # grids of 3, 4 and 7: 10, 17 and 50 tokens
def test_loss_and_gradients_in_double(img_size, batch):
    model = conmim(img_size=img_size)
    views, mask = drawn(model, batch)
    model, views = model.double(), [view.double() for view in views]
    reference = copy.deepcopy(model)
    losses = []
    queries = model.student(views[0], mask)
    losses.append(task_of(model).loss(queries, model.teach(views[1]), mask))
    with torch.no_grad():
        keys = reference_branch(reference.teacher.branch, views[1])
    queries = reference_branch(reference.student, views[0], mask)
    losses.append(reference_loss(queries, keys, mask, 0.1))
    for loss in losses:
        loss.backward()
    torch.testing.assert_close(losses[0], losses[1], rtol=1e-12, atol=0)
    for name, parameter in model.student.named_parameters():
        expected = reference.student.get_parameter(name).grad
        # the largest entries differ by rounding; a bias before a BatchNorm has no gradient but rounding
        torch.testing.assert_close(parameter.grad, expected, rtol=1e-8, atol=1e-10, msg=lambda m, n=name: f"{n}: {m}")


COMPILER = pytest.mark.skipif(not shutil.which("g++"), reason="torch.compile needs g++ on a CPU")


ADAMW = partial(torch.optim.AdamW, lr=1e-3, betas=(0.9, 0.98), weight_decay=0.0)


SGD = partial(torch.optim.SGD, lr=0.1, momentum=0.9)


@pytest.mark.parametrize(
    ("dtype", "precision", "optimizer", "tolerance", "moved"),
    [
        (torch.float64, "32-true", ADAMW, 1e-9, 1e-9),
        # in float32 AdamW turns rounding into steps: what has no gradient (a bias before a BatchNorm) moves by its sign
        (torch.float32, "32-true", SGD, 1e-5, 1e-5),
        (torch.float32, "bf16-mixed", SGD, 2e-2, 2e-2),  # rounding at 8 bits, of moves of up to .1
        (torch.float32, "16-mixed", SGD, 4e-3, 4e-3),  # at 11 bits; with the loss scaler
    ],
)
@pytest.mark.parametrize(
    ("img_size", "batch", "compiled"),
    [(24, 4, False), (56, 3, False), (32, 1, False), pytest.param(24, 4, True, marks=[pytest.mark.slow, COMPILER])],
)
def test_three_steps(dtype, precision, optimizer, tolerance, moved, img_size, batch, compiled):
    three_steps(conmim(img_size=img_size), dtype, precision, optimizer, tolerance, moved, batch, compiled)


@pytest.mark.slow
@COMPILER
@pytest.mark.parametrize("compiled", [False, True])
def test_three_steps_with_checkpointing(compiled):
    model = conmim(img_size=24, checkpointing=True)
    three_steps(model, torch.float64, "32-true", ADAMW, 1e-9, 1e-9, 4, compiled)


def three_steps(model, dtype, precision, optimizer, tolerance, moved, batch, compiled):
    views, mask = drawn(model, batch)
    model, views = model.to(dtype), [view.to(dtype) for view in views]
    reference, start = copy.deepcopy(model), copy.deepcopy(model)
    names = list(model.state_dict())
    task = task_of(model, partial(optimizer, fused=precision != "16-mixed"), max_grad_norm=1.0)
    ours = TrainStep(task, batch_size=batch, precision=precision, compiled=compiled)
    reference_optimizer = optimizer(reference.student.parameters(), fused=False, foreach=False)
    reference_step = ReferenceStep(
        reference, reference_optimizer, temperature=0.1, max_grad_norm=1.0, precision=precision
    )
    for _ in range(3):
        loss, expected = ours(views, mask, 0.9).item(), reference_step(views, mask, 0.9)
        assert loss == pytest.approx(expected, rel=tolerance)
    assert torch._dynamo.utils.counters["stats"]["unique_graphs"] == (2 if compiled else 0)  # student and teacher, once
    assert not torch._dynamo.utils.counters["graph_break"]
    assert list(model.state_dict()) == names  # no prefix of the compiler's
    moves = [flat(trained) - flat(start) for trained in (model, reference)]
    assert (moves[0] - moves[1]).norm() <= moved * moves[1].norm()
    for name, parameter in model.named_parameters():
        assert (parameter - reference.get_parameter(name)).abs().max() <= tolerance, name


def test_accumulated_batches_train_as_their_mean():
    """Two batches per step with the Trainer, against the official operations by hand."""
    model = conmim()
    drawn(model, 1)
    reference, start = copy.deepcopy(model), copy.deepcopy(model)
    fit(
        make_task(model=model, optimizer=partial(SGD, weight_decay=0.0), teacher_momentum_end=0.9, min_lr=0.1),
        make_batches(4),
        accumulate_grad_batches=2,
    )
    optimizer = SGD(reference.student.parameters(), weight_decay=0.0)
    batches = list(make_batches(4))
    for pair in (batches[:2], batches[2:]):
        optimizer.zero_grad()
        for batch in pair:
            with torch.no_grad():
                keys = reference_branch(reference.teacher.branch, batch.teacher_view)
            queries = reference_branch(reference.student, batch.student_view, batch.mask)
            (reference_loss(queries, keys, batch.mask, 0.1) / 2).backward()
        torch.nn.utils.clip_grad_norm_(reference.student.parameters(), 1.0)
        optimizer.step()
        with torch.no_grad():
            for averaged, trained in zip(
                reference.teacher.branch.parameters(), reference.student.parameters(), strict=True
            ):
                averaged.mul_(0.9).add_(0.1 * trained)
    moves = [flat(trained) - flat(start) for trained in (model, reference)]
    assert moves[1].norm() > 0.1
    assert (moves[0] - moves[1]).norm() <= 1e-4 * moves[1].norm()


@pytest.mark.parametrize("img_size", [24, 56])  # 10 and 50 tokens, in rows of 16 and 56
def test_the_attention_of_other_devices(img_size, monkeypatch):
    """The implementation that a GPU uses, on the CPU: torch's attention with a bias whose rows are aligned."""
    model = conmim(img_size=img_size)
    views, mask = drawn(model, 3)
    model, views = model.double(), [view.double() for view in views]
    results, calls = [], []
    monkeypatch.setitem(IMPLEMENTATIONS, "sdpa", lambda *inputs: (calls.append(0), sdpa(*inputs))[1])
    for on_gpu in (False, True):
        for branch in (model.student, model.teacher.branch):
            branch.encoder.attn_implementation = "sdpa" if on_gpu else "auto"
        model.zero_grad()
        loss = task_of(model).loss(model.student(views[0], mask), model.teach(views[1]), mask)
        loss.backward()
        assert len(calls) == (4 if on_gpu else 0), "two branches of two blocks"
        results.append([loss.detach(), *(parameter.grad.clone() for parameter in model.student.parameters())])
    assert model.student.encoder.backbone.rel_pos_bias.relative_position_bias_table.grad.abs().max() > 1e-6
    for one, other in zip(*results, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-8, atol=1e-10)


def test_another_family_is_an_error():
    model = conmim(use_shared_rel_pos_bias=False, use_rel_pos_bias=True)
    with pytest.raises(ValueError, match="shared table"):
        ReferenceStep(
            model,
            torch.optim.AdamW(model.student.parameters()),
            temperature=0.1,
            max_grad_norm=None,
            precision="32-true",
        )


def test_the_reference_loss_of_equal_keys_is_the_logarithm_of_their_number():
    keys, mask = torch.ones(2, 7, 3), torch.ones(2, 7, dtype=torch.bool)
    assert reference_loss(torch.randn(2, 7, 3), keys, mask, 0.1).item() == pytest.approx(torch.tensor(7.0).log().item())
