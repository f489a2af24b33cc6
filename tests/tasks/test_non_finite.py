"""No training step makes the host wait for the device.

Without a GPU, the phases of a step run on fake CUDA tensors, which have no values, so that reading one fails; and the
operations of a whole step with the Trainer that would wait are counted. With a GPU, torch's own check of synchronising
calls is used, see ``test_gpu.py``.
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
from conmim_lightning.losses.patch_info_nce import PatchInfoNCE
from conmim_lightning.optim.non_finite import NonFiniteError
from conmim_lightning.tasks.non_finite import NonFiniteGuard

WAITING = {
    "_local_scalar_dense",  # item(), bool(), float()
    "lift_fresh",  # torch.tensor(), which copies numbers from the host
    "nonzero",
    "masked_select",
    "_unique2",
    "unique_dim",
    "equal",
    "repeat_interleave",
    "_linalg_check_errors",
}


READING = ("tolist", "numpy", "cpu")  # methods that read a tensor on the CPU without any operation


class WaitCounter(TorchDispatchMode):
    """Names of the operations and methods that would wait for a GPU."""

    def __init__(self):
        super().__init__()
        self.names = []
        self.methods = pytest.MonkeyPatch()

    def __enter__(self):
        for name in READING:
            self.methods.setattr(torch.Tensor, name, self.recorded(name, getattr(torch.Tensor, name)), raising=False)
        return super().__enter__()

    def __exit__(self, *error):
        self.methods.undo()
        return super().__exit__(*error)

    def recorded(self, name, method):
        def call(tensor, *args, **kwargs):
            self.names.append(name)
            return method(tensor, *args, **kwargs)

        return call

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        name = func._schema.name.split("::")[1]
        devices = {a.device.type for a in args if isinstance(a, torch.Tensor) and a.dim()}
        moved = (kwargs or {}).get("device")
        copied = name == "_to_copy" and moved is not None and devices - {torch.device(moved).type}
        selected = name.startswith("index") and any(
            index is not None and index.dtype is torch.bool for index in args[1] if isinstance(args[1], list | tuple)
        )
        if name in WAITING or copied or selected:
            self.names.append(name)
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


def batch_on_cuda(max_hidden):
    crop = torch.randint(0, 256, (4, 3, 32, 32), dtype=torch.uint8, device="cuda")
    rows, mask = torch.rand(4, 2, 8, device="cuda"), torch.rand(4, 4, 4, device="cuda") < 0.5
    return PretrainBatch(crop, rows, mask, torch.arange(4, device="cuda"), (), max_hidden)


def step_of_the_task(task, max_hidden, monkeypatch):
    """The task's methods in the Trainer's order, except for the backward pass, for which torch needs a real GPU.

    The norm that is copied to the host asynchronously stays on the device; logged tensors are stored unchanged.
    """
    optimizer, logged = task.make_optimizer(4), {}
    task._trainer = SimpleNamespace(
        precision_plugin=None, global_step=task.log_every_n_steps - 1, current_epoch=0, optimizers=[optimizer],
        max_steps=9, max_epochs=1, accumulate_grad_batches=1, estimated_stepping_batches=9, num_training_batches=9,
        lr_scheduler_configs=[],
    )  # fmt: skip
    monkeypatch.setattr(task, "log", lambda name, value: logged.update({name: value}))
    monkeypatch.setattr(task, "log_dict", logged.update)
    monkeypatch.setattr(task.guard, "_to_host", lambda norm: norm)
    loss = task.training_step(task.on_after_batch_transfer(batch_on_cuda(max_hidden), 0), 0)
    for parameter in task.model.student.parameters():
        parameter.grad = torch.empty_like(parameter)
    task.configure_gradient_clipping(optimizer, 1.0)
    task.optimizer_step(0, 0, optimizer, lambda: None)
    return loss, logged


@pytest.mark.parametrize("project", ["all", "masked"])
@pytest.mark.parametrize("dictionary", ["image", "device"])
def test_a_step_on_a_device_without_values(project, dictionary, monkeypatch):
    """Including its logging, its metrics and its check of the gradient."""
    task = make_task(model=conmim(project=project), loss=PatchInfoNCE(dictionary=dictionary, similarity_filter=0.5))
    with on_fake_cuda(task), WaitCounter() as waits:
        loss, logged = step_of_the_task(task, 8, monkeypatch)
    assert loss.device.type == "cuda"
    assert {"train/loss", "train/teacher_distance", "optim/grad_norm", "optim/lr"} <= set(logged)
    assert all(value.device.type == "cuda" for value in logged.values())
    assert not waits.names


def test_counting_hidden_patches_would_wait(monkeypatch):
    """The check detects it."""
    task = make_task()
    with on_fake_cuda(task):
        with pytest.raises(DataDependentOutputException):
            step_of_the_task(task, 0, monkeypatch)
        with WaitCounter() as waits:
            torch.tensor([1.0], device="cuda")
    assert "lift_fresh" in waits.names


@pytest.mark.parametrize(
    ("read", "name"),
    [
        (lambda loss: loss.tolist(), "tolist"),
        (lambda loss: loss.detach().cpu(), "cpu"),
        (lambda loss: loss.detach().numpy(), "numpy"),
        (float, "_local_scalar_dense"),
    ],
)
def test_reading_the_loss_on_a_cpu_is_detected(read, name):
    class ReadLoss(Callback):
        def on_train_batch_end(self, trainer, pl_module, outputs, batch, batch_idx):
            read(outputs["loss"])

    watch = Watch()
    fit(make_task(), make_batches(), ReadLoss(), watch)
    assert watch.waits.names.count(name) >= watch.steps == 5


class Watch(Callback):
    """Count from the start of a batch, after its perturbation, to its end; the first step creates the metrics."""

    def __init__(self):
        self.waits, self.steps, self.counting = WaitCounter(), 0, False

    def on_train_batch_start(self, trainer, pl_module, batch, batch_idx):
        if trainer.global_step:
            self.counting = True
            self.waits.__enter__()

    def on_train_batch_end(self, trainer, pl_module, outputs, batch, batch_idx):
        if self.counting:
            self.waits.__exit__(None, None, None)
            self.steps += 1


@pytest.fixture
def deferred(monkeypatch):
    """As on a GPU."""
    monkeypatch.setattr(NonFiniteGuard, "is_deferred", staticmethod(lambda task, optimizer: True))


class Students(Callback):
    """The student's class token at the end of each batch."""

    def __init__(self):
        self.weights = []

    def on_train_batch_end(self, trainer, pl_module, outputs, batch, batch_idx):
        self.weights.append(pl_module.model.student.encoder.backbone.cls_token.detach().clone())


class SaveEach(Callback):
    """Save after each batch."""

    def __init__(self, folder):
        self.folder = folder

    def on_train_batch_end(self, trainer, pl_module, outputs, batch, batch_idx):
        trainer.save_checkpoint(self.folder / f"after{batch_idx}.ckpt")


@pytest.mark.parametrize("accumulate", [1, 2])
def test_a_whole_step_under_the_trainer(deferred, accumulate):
    watch = Watch()
    fit(make_task(), make_batches(), watch, accumulate_grad_batches=accumulate)
    assert watch.steps == 6 - accumulate
    # the norm of the step before is read on the host, once per step; the first step is not counted
    assert watch.waits.names == ["_local_scalar_dense"] * (6 // accumulate - 1)


def test_a_bad_step_ends_the_run_one_step_later(deferred, tmp_path):
    task = make_task()
    message = r"nan at step 3 in epoch 0; loss \[nan\] of samples \[12, 13, 14, 15\]"
    with pytest.raises(NonFiniteError, match=message) as raised:
        fit(task, make_batches(bad=3))
    assert raised.value.step == 3
    assert task.trainer.global_step == 4
    assert all(parameter.isfinite().all() for parameter in task.model.parameters())


@pytest.mark.parametrize("bad", [3, 5])  # 5 is the last step
def test_a_bad_step_is_skipped_by_the_optimizer(deferred, bad):
    task, watch = make_task(on_non_finite="skip"), Students()
    with pytest.warns(UserWarning, match=f"at step {bad} .*this step is skipped"):
        fit(task, make_batches(bad=bad), watch)
    assert task.guard.skipped == 1
    assert torch.equal(watch.weights[bad], watch.weights[bad - 1])
    assert not torch.equal(watch.weights[bad - 1], watch.weights[bad - 2])
    assert all(parameter.isfinite().all() for parameter in task.model.parameters())


def test_a_bad_last_step_ends_the_run(deferred):
    with pytest.raises(NonFiniteError, match="nan at step 5"):
        fit(make_task(), make_batches(bad=5))


def test_no_checkpoint_is_saved_after_a_bad_step(deferred, tmp_path):
    task = make_task()
    with pytest.raises(NonFiniteError, match="nan at step 2"):
        fit(task, make_batches(bad=2), SaveEach(tmp_path))
    assert sorted(path.name for path in tmp_path.iterdir()) == ["after0.ckpt", "after1.ckpt"]


def test_deferred_checks_change_nothing(monkeypatch):
    results = []
    for deferred in (False, True):
        monkeypatch.setattr(
            NonFiniteGuard, "is_deferred", staticmethod(lambda task, optimizer, deferred=deferred: deferred)
        )
        task = make_task()
        fit(task, make_batches())
        results.append(list(task.model.parameters()))
    assert all(torch.equal(one, other) for one, other in zip(*results, strict=True))
