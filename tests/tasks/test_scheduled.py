from functools import partial
from types import SimpleNamespace

import pytest
import torch
from lightning import Trainer
from torch import nn
from torch.utils.data import DataLoader

from conmim_lightning.optim.recipe import Schedule
from conmim_lightning.tasks.scheduled import ScheduledTask


class Task(ScheduledTask):
    def __init__(self, **changes):
        schedule = Schedule(epochs=2, warmup_epochs=1, lr_scaling="linear", base_batch_size=4)
        super().__init__(**({"optimizer": partial(torch.optim.SGD, lr=0.1), "schedule": schedule} | changes))
        self.layer, self.noise = nn.Linear(2, 1), []

    def param_groups(self):
        return [{"params": list(self.parameters())}]

    def training_step(self, batch, batch_idx):
        self.noise.append(torch.rand(1).item())
        return self.layer(batch).sum()


def fit(task, **changes):
    quiet = {
        "logger": False,
        "enable_checkpointing": False,
        "enable_progress_bar": False,
        "enable_model_summary": False,
    }
    trainer = Trainer(accelerator="cpu", max_epochs=2, **quiet, **changes)
    trainer.fit(task, DataLoader(torch.randn(12, 2), batch_size=2))
    return trainer


def test_the_learning_rate_is_scaled_and_scheduled_per_step():
    task = Task(batch_size=2)
    trainer = fit(task)
    assert trainer.global_step == 12
    assert trainer.optimizers[0].param_groups[0]["initial_lr"] == pytest.approx(0.05)
    assert trainer.lr_scheduler_configs[0].interval == "step"


def test_randomness_depends_only_on_seed_and_batch():
    one, same, other = Task(batch_size=2, seed=3), Task(batch_size=2, seed=3), Task(batch_size=2, seed=4)
    fit(one)
    torch.rand(99)
    fit(same)
    fit(other)
    assert one.noise == same.noise
    assert len(set(one.noise)) == 12
    assert not set(one.noise) & set(other.noise)


def test_the_batch_size_must_be_known():
    with pytest.raises(ValueError, match="without a data module, the task needs a batch_size"):
        fit(Task())
    task = Task()
    task.trainer = SimpleNamespace(datamodule=SimpleNamespace(batch_size=2))
