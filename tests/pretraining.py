"""A small pre-training task, its batches, and a Trainer on the CPU."""

from functools import partial

import torch
from conftest import conmim
from lightning import Trainer
from torch.utils.data import DataLoader

from conmim_lightning.batches import PretrainBatch, PretrainViews
from conmim_lightning.optim.recipe import PretrainSchedule
from conmim_lightning.perturbation.apply import Perturbation
from conmim_lightning.perturbation.draw import PerturbationDraw
from conmim_lightning.rng import generator
from conmim_lightning.tasks.pretrain import PretrainTask


def make_task(**changes):
    torch.manual_seed(0)
    arguments = {
        "model": conmim(),
        "perturbation": Perturbation(mean=[0.5] * 3, std=[0.25] * 3, strengths=["weak", "strong"], largest_sigma=2.0),
        "optimizer": partial(torch.optim.AdamW, lr=1e-2, weight_decay=0.05, fused=True),
        "batch_size": 4,
    }
    schedule = {"epochs": 1, "warmup_epochs": 0, "min_lr": 0.0, "max_grad_norm": None, "teacher_momentum_start": 0.9}
    others = ("teacher_momentum_end", "lr_scaling", "base_batch_size")
    own = {name: changes.pop(name) for name in (*schedule, *others) if name in changes}
    arguments["schedule"] = PretrainSchedule(**(schedule | own))
    return PretrainTask(**(arguments | changes))


def drawn(model, batch):
    """Random weights, views and a mask for a model."""
    for parameter in model.parameters():
        torch.nn.init.normal_(parameter, std=0.2)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if "norm" in name and name.endswith("weight"):
                parameter.add_(1)
    height, width = model.student.encoder.grid_size
    views = [torch.randn(batch, *model.student.encoder.input_shape) for _ in range(2)]
    mask = torch.rand(batch, height, width) < 0.6
    mask[:, 0, 0] = True
    return views, mask


def flat(model):
    """All parameters of student and teacher, flattened."""
    return torch.cat([parameter.detach().flatten() for parameter in model.parameters()])


def make_batches(count=6, bad=None):
    """Batches of four images; one image of the batch ``bad`` is NaN."""
    return DataLoader(list(_drawn(count, bad)), batch_size=None)


def _drawn(count, bad):
    random = torch.Generator().manual_seed(0)
    for number in range(count):
        views = [torch.randn(4, 3, 32, 32, generator=random) for _ in range(2)]
        if number == bad:
            views[0][2] = torch.nan
        mask = torch.rand(4, 4, 4, generator=random) < 0.5
        yield PretrainViews(*views, mask, torch.arange(4) + 4 * number, (), int(mask.flatten(1).sum(1).max()))


def fit(task, batches, *callbacks, **changes):
    arguments = {"max_epochs": 1, "gradient_clip_val": 1.0, "accelerator": "cpu", "enable_progress_bar": False}
    trainer = Trainer(
        **(arguments | changes),
        logger=False,
        enable_checkpointing=False,
        enable_model_summary=False,
        callbacks=list(callbacks),
    )
    trainer.fit(task, batches)
    return trainer


QUICK_TEACHER = ("schedule.teacher_momentum_start=0.5", "schedule.teacher_momentum_end=0.5")
"""A teacher that follows within a few steps, so that a missing update is detected."""


def same_training(one, other):
    """Two checkpoints' entries: same names and numbers, weights within a hundredth of the teacher's distance."""
    assert list(one) == list(other), "no prefix of the compiler's"
    for name, tensor in other.items():
        torch.testing.assert_close(one[name].float(), tensor.float(), rtol=1e-3, atol=1e-4)
    names = [name.removeprefix("model.student.") for name in other if name.startswith("model.student.")]
    names = [name for name in names if "running" not in name and "tracked" not in name]  # BatchNorm's are not weights
    weights = [
        {
            branch: torch.cat([state[f"model.{branch}.{name}"].double().flatten() for name in names])
            for branch in ("student", "teacher.branch")
        }
        for state in (one, other)
    ]
    distance = (weights[1]["student"] - weights[1]["teacher.branch"]).norm()
    assert distance > 1e-2
    for branch in ("student", "teacher.branch"):
        assert (weights[0][branch] - weights[1][branch]).norm() <= 1e-2 * distance, branch


def held_out_batch(model, images=2):
    """Crops with masks and perturbations, for figures; the model gets random weights."""
    _, mask = drawn(model, images)
    parameters = torch.stack([PerturbationDraw()(generator(0, 0, index)) for index in range(images)])
    crop = torch.randint(0, 256, (images, 3, 32, 32), dtype=torch.uint8)
    return PretrainBatch(crop, parameters, mask, torch.arange(images), [""] * images)
