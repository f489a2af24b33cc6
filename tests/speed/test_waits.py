"""Nothing in a training step makes the host wait for the device.

Without a GPU: the parts of the step run on fake CUDA tensors, which have no values, so that whatever asks for one
fails; and a whole step under the Trainer has the operations counted that would wait. With a GPU, torch's own check of
synchronising calls watches the step, see ``test_gpu.py``.
"""

from contextlib import contextmanager
from types import SimpleNamespace

import pytest
import torch
from conftest import conmim
from lightning import Callback
from pretraining import fit, make_batches, make_task
from torch._subclasses.fake_tensor import DataDependentOutputException, FakeTensorMode
from torch.utils._python_dispatch import TorchDispatchMode

from conmim_lightning.batches import PretrainBatch
from conmim_lightning.optim.non_finite import NonFiniteError
from conmim_lightning.tasks.finite import FiniteSteps

WAITING = {
    "_local_scalar_dense",  # item(), bool(), float()
    "lift_fresh",  # torch.tensor(), whose numbers come from the host
    "nonzero",
    "masked_select",
    "_unique2",
    "unique_dim",
    "equal",
    "repeat_interleave",
    "_linalg_check_errors",
}


ASKING = ("tolist", "numpy", "cpu")  # methods that read a tensor on the CPU without any operation


class Waits(TorchDispatchMode):
    """Names of the operations and methods that would wait for a GPU."""

    def __init__(self):
        super().__init__()
        self.found = []
        self.methods = pytest.MonkeyPatch()

    def __enter__(self):
        for name in ASKING:
            self.methods.setattr(torch.Tensor, name, self.seen(name, getattr(torch.Tensor, name)), raising=False)
        return super().__enter__()

    def __exit__(self, *error):
        self.methods.undo()
        return super().__exit__(*error)

    def seen(self, name, method):
        def call(tensor, *args, **kwargs):
            self.found.append(name)
            return method(tensor, *args, **kwargs)

        return call

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        name = func._schema.name.split("::")[1]
        devices = {a.device.type for a in args if isinstance(a, torch.Tensor) and a.dim()}
        moved = (kwargs or {}).get("device")
        elsewhere = name == "_to_copy" and moved is not None and devices - {torch.device(moved).type}
        picked = name.startswith("index") and any(
            index is not None and index.dtype is torch.bool for index in args[1] if isinstance(args[1], list | tuple)
        )
        if name in WAITING or elsewhere or picked:
            self.found.append(name)
        return func(*args, **(kwargs or {}))


@contextmanager
def on_fake_cuda(task):
    torch.__future__.set_overwrite_module_params_on_conversion(True)
    try:
        with FakeTensorMode(allow_non_fake_inputs=True):
            task.to("cuda:0")
            yield
    finally:
        torch.__future__.set_overwrite_module_params_on_conversion(False)


def batch_on_cuda(most_hidden):
    crop = torch.randint(0, 256, (4, 3, 32, 32), dtype=torch.uint8, device="cuda")
    rows, mask = torch.rand(4, 2, 8, device="cuda"), torch.rand(4, 4, 4, device="cuda") < 0.5
    return PretrainBatch(crop, rows, mask, torch.arange(4, device="cuda"), (), most_hidden)


def step_of_the_task(task, most_hidden, monkeypatch):
    """The task's own methods in the Trainer's order, but for the backward pass, for which torch wants a real GPU.

    What goes to the host on its own, to be read a step later, stays here; logged numbers are kept as they are.
    """
    optimizer, logged = task.make_optimizer(4), {}
    task._trainer = SimpleNamespace(
        precision_plugin=None, global_step=task.monitor_every - 1, current_epoch=0, optimizers=[optimizer],
        max_steps=9, max_epochs=1, accumulate_grad_batches=1, estimated_stepping_batches=9, num_training_batches=9,
    )  # fmt: skip
    monkeypatch.setattr(task, "log", lambda name, value: logged.update({name: value}))
    monkeypatch.setattr(task, "log_dict", logged.update)
    monkeypatch.setattr(task.finite, "_sent", lambda norm: norm)
    loss = task.training_step(task.on_after_batch_transfer(batch_on_cuda(most_hidden), 0), 0)
    for parameter in task.model.student.parameters():
        parameter.grad = torch.empty_like(parameter)
    task.configure_gradient_clipping(optimizer, 1.0)
    task.optimizer_step(0, 0, optimizer, lambda: None)
    return loss, logged


@pytest.mark.parametrize("projected", ["all", "needed"])
@pytest.mark.parametrize("dictionary", ["image", "device"])
def test_a_step_on_a_device_without_values(projected, dictionary, monkeypatch):
    """Its logging, its figures and its look at the gradient included."""
    task = make_task(model=conmim(projected=projected), dictionary=dictionary, similarity_filter=0.5)
    with on_fake_cuda(task), Waits() as waits:
        loss, logged = step_of_the_task(task, 8, monkeypatch)
    assert loss.device.type == "cuda"
    assert {"train/loss", "train/teacher_distance", "optim/grad_norm", "optim/lr"} <= set(logged)
    assert all(value.device.type == "cuda" for value in logged.values())
    assert not waits.found


def test_counting_what_is_hidden_would_wait(monkeypatch):
    """The check sees what it is there for."""
    task = make_task()
    with on_fake_cuda(task):
        with pytest.raises(DataDependentOutputException):
            step_of_the_task(task, 0, monkeypatch)
        with Waits() as waits:
            torch.tensor([1.0], device="cuda")
    assert "lift_fresh" in waits.found


@pytest.mark.parametrize(
    ("ask", "name"),
    [
        (lambda loss: loss.tolist(), "tolist"),
        (lambda loss: loss.detach().cpu(), "cpu"),
        (lambda loss: loss.detach().numpy(), "numpy"),
        (float, "_local_scalar_dense"),
    ],
)
def test_asking_for_the_loss_on_a_cpu_is_seen(ask, name):
    class Asks(Callback):
        def on_train_batch_end(self, trainer, pl_module, outputs, batch, batch_idx):
            ask(outputs["loss"])

    watch = Watch()
    fit(make_task(), make_batches(), Asks(), watch)
    assert watch.waits.found.count(name) >= watch.steps == 5


class Watch(Callback):
    """Counts from a batch's start, after its perturbation, to its end; the first step makes the metrics."""

    def __init__(self):
        self.waits, self.steps, self.counting = Waits(), 0, False

    def on_train_batch_start(self, trainer, pl_module, batch, batch_idx):
        if trainer.global_step:
            self.counting = True
            self.waits.__enter__()

    def on_train_batch_end(self, trainer, pl_module, outputs, batch, batch_idx):
        if self.counting:
            self.waits.__exit__(None, None, None)
            self.steps += 1


@pytest.fixture
def reads_late(monkeypatch):
    """As on a GPU."""
    monkeypatch.setattr(FiniteSteps, "reads_late", staticmethod(lambda task, optimizer: True))


class Students(Callback):
    """The student's class token at the end of each batch."""

    def __init__(self):
        self.weights = []

    def on_train_batch_end(self, trainer, pl_module, outputs, batch, batch_idx):
        self.weights.append(pl_module.model.student.encoder.backbone.cls_token.detach().clone())


class SaveEach(Callback):
    """Saves after each batch."""

    def __init__(self, folder):
        self.folder = folder

    def on_train_batch_end(self, trainer, pl_module, outputs, batch, batch_idx):
        trainer.save_checkpoint(self.folder / f"after{batch_idx}.ckpt")


@pytest.mark.parametrize("accumulate", [1, 2])
def test_a_whole_step_under_the_trainer(reads_late, accumulate):
    watch = Watch()
    fit(make_task(), make_batches(), watch, accumulate_grad_batches=accumulate)
    assert watch.steps == 6 - accumulate
    # what has been sent to the host a step ago is read there: a step's norm, once; the first step is not counted
    assert watch.waits.found == ["_local_scalar_dense"] * (6 // accumulate - 1)


def test_a_bad_step_stops_the_run_a_step_later(reads_late, tmp_path):
    task = make_task()
    told = r"nan at step 3 in epoch 0; loss \[nan\] of samples \[12, 13, 14, 15\]"
    with pytest.raises(NonFiniteError, match=told) as raised:
        fit(task, make_batches(bad=3))
    assert raised.value.step == 3
    assert task.trainer.global_step == 4
    assert all(parameter.isfinite().all() for parameter in task.model.parameters())


@pytest.mark.parametrize("bad", [3, 5])  # 5 is the last step
def test_a_bad_step_is_left_out_by_the_optimizer_itself(reads_late, bad):
    task, watch = make_task(on_non_finite="skip"), Students()
    with pytest.warns(UserWarning, match=f"at step {bad} .*this step is left out"):
        fit(task, make_batches(bad=bad), watch)
    assert task.finite.skipped == 1
    assert torch.equal(watch.weights[bad], watch.weights[bad - 1])
    assert not torch.equal(watch.weights[bad - 1], watch.weights[bad - 2])
    assert all(parameter.isfinite().all() for parameter in task.model.parameters())


def test_the_last_step_stops_the_run_too(reads_late):
    with pytest.raises(NonFiniteError, match="nan at step 5"):
        fit(make_task(), make_batches(bad=5))


def test_nothing_is_kept_of_a_run_that_is_to_stop(reads_late, tmp_path):
    task = make_task()
    with pytest.raises(NonFiniteError, match="nan at step 2"):
        fit(task, make_batches(bad=2), SaveEach(tmp_path))
    assert sorted(path.name for path in tmp_path.iterdir()) == ["after0.ckpt", "after1.ckpt"]


def test_finite_steps_are_those_of_a_host_that_looks_at_once(monkeypatch):
    found = []
    for late in (False, True):
        monkeypatch.setattr(FiniteSteps, "reads_late", staticmethod(lambda task, optimizer, late=late: late))
        task = make_task()
        fit(task, make_batches())
        found.append(list(task.model.parameters()))
    assert all(torch.equal(one, other) for one, other in zip(*found, strict=True))
