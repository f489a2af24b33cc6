from functools import partial
from types import SimpleNamespace
from typing import NamedTuple

import pytest
import torch
from conftest import beit
from lightning import LightningDataModule, Trainer
from torch import Tensor, nn
from torch.utils.data import DataLoader
from torchmetrics import MeanMetric, MetricCollection

from conmim_lightning.optim.non_finite import NonFiniteError
from conmim_lightning.optim.recipe import Schedule
from conmim_lightning.tasks.supervised import SupervisedTask


class Batch(NamedTuple):
    image: Tensor


class MeanTask(SupervisedTask):
    """The smallest task: the mean of the scores."""

    def __init__(self, **changes):
        schedule = Schedule(epochs=1, max_grad_norm=changes.pop("max_grad_norm", None))
        super().__init__(
            normalize=nn.Identity(),
            num_classes=2,
            metrics=lambda: MetricCollection({"mean": MeanMetric()}),
            optimizer=partial(torch.optim.SGD, lr=0.1),
            schedule=schedule,
            batch_size=2,
        )
        self.model, self.factor = beit(num_classes=2), changes.pop("factor", 1.0)
        self.seen = {"val": 0, "test": 0}

    timm_model = property(lambda self: self.model)

    def param_groups(self):
        return [{"params": list(self.parameters())}]

    def training_step(self, batch, batch_idx):
        return self.factor * self.model(batch.image).square().mean()

    def evaluate(self, batch, metrics):
        metrics.update(self.model(batch.image).mean())
        self.seen["val" if metrics is self.metrics["val"] else "test"] += 1
        return {}


class Data(LightningDataModule):
    classes, mean, std, batch_size = ("a", "b"), (0.5,) * 3, (0.5,) * 3, 2

    def train_dataloader(self):
        return DataLoader([Batch(torch.randn(2, 3, 32, 32)) for _ in range(3)], batch_size=None)

    val_dataloader = test_dataloader = train_dataloader


def run(task):
    quiet = {
        "logger": False,
        "enable_checkpointing": False,
        "enable_progress_bar": False,
        "enable_model_summary": False,
    }
    trainer = Trainer(accelerator="cpu", max_epochs=1, log_every_n_steps=1, **quiet)
    trainer.fit(task, datamodule=Data())
    return trainer


def test_each_split_has_its_own_metrics():
    task = MeanTask()
    trainer = run(task)
    assert task.seen == {"val": 3 + 2, "test": 0}, "two batches of the sanity check"
    assert {"val/mean", "optim/lr", "optim/grad_norm"} <= set(trainer.callback_metrics)
    trainer.test(task, datamodule=Data(), verbose=False)
    assert task.seen["test"] == 3
    assert set(trainer.callback_metrics) == {"test/mean"}


def test_gradients_are_clipped_and_their_norm_is_logged():
    task = MeanTask(max_grad_norm=1e-12)
    before = [parameter.detach().clone() for parameter in task.model.parameters()]
    trainer = run(task)
    assert trainer.callback_metrics["optim/grad_norm"] > 1e-6, "before clipping"
    for one, other in zip(before, task.model.parameters(), strict=True):
        torch.testing.assert_close(one, other.detach(), rtol=0, atol=1e-9)


def test_a_non_finite_gradient_ends_the_run():
    with pytest.raises(NonFiniteError, match="gradient norm nan at step 0 in epoch 0"):
        run(MeanTask(factor=float("nan")))


def test_class_names_travel_in_checkpoints():
    task, other, checkpoint = MeanTask(), MeanTask(), {}
    run(task)
    task.on_save_checkpoint(checkpoint)
    assert checkpoint["classes"] == ["a", "b"]
    other.on_load_checkpoint(checkpoint | {"state_dict": task.state_dict()})
    assert other.classes == ["a", "b"]
    other.trainer = SimpleNamespace(datamodule=SimpleNamespace(classes=None))
    other.setup("test")
    assert other.classes == ["a", "b"], "images without classes keep the names of training"


def test_a_checkpoint_of_another_architecture():
    state = {name: value for name, value in MeanTask().state_dict().items() if "blocks.1" not in name}
    with pytest.raises(ValueError, match=r"blocks\.1"):
        MeanTask().on_load_checkpoint({"state_dict": state})
