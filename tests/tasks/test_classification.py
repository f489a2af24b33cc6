"""Fine-tuning under Lightning's Trainer."""

import random
from functools import partial

import numpy as np
import pytest
import torch
from conftest import beit
from lightning import LightningDataModule, Trainer, seed_everything
from timm.data import Mixup
from timm.data.random_erasing import RandomErasing
from torch.nn import functional as F
from torch.utils.data import DataLoader

from conmim_lightning.batches import LabelledBatch
from conmim_lightning.models.backbones import BackboneInfo
from conmim_lightning.models.normalize import Normalize
from conmim_lightning.optim.non_finite import NonFiniteError
from conmim_lightning.optim.recipe import Schedule
from conmim_lightning.tasks.classification import ClassificationTask

CLASSES = ["a", "b", "c"]


def make_task(**changes):
    seed_everything(0, verbose=False)
    arguments = {
        "model": beit(num_classes=3, global_pool="avg", use_shared_rel_pos_bias=False, use_rel_pos_bias=True),
        "normalize": Normalize([0.5] * 3, [0.25] * 3),
        "num_classes": 3,
        "optimizer": partial(torch.optim.AdamW, lr=1e-2, weight_decay=0.05),
        "batch_size": 6,
        "label_smoothing": 0.0,
    }
    schedule = {"epochs": 2, "base_batch_size": 6}
    own = {name: changes.pop(name) for name in (*schedule, "warmup_epochs", "lr_scaling") if name in changes}
    arguments["schedule"] = Schedule(**(schedule | own))
    return ClassificationTask(**(arguments | changes))


class Data(LightningDataModule):
    """Four batches of six images; class c is brighter than b than a; twice as many of a as of b or c."""

    def __init__(self, broken=False):
        super().__init__()
        noise = torch.Generator().manual_seed(0)
        self.classes, self.mean, self.std, self.batches = CLASSES, (0.5,) * 3, (0.25,) * 3, []
        for batch in range(4):
            label = torch.tensor([0, 0, 0, 1, 2, 1 if batch % 2 else 2])
            image = 60 * label.view(-1, 1, 1, 1) + torch.randint(0, 50, (6, 3, 32, 32), generator=noise)
            reasons = ["x\tbroken" if broken and position == 0 else "" for position in range(6)]
            label[0] = -1 if broken else label[0]
            self.batches.append(LabelledBatch(image.byte(), label, torch.arange(6) + 6 * batch, reasons))

    def class_counts(self):
        return np.array([12, 6, 6])

    def train_dataloader(self):
        return DataLoader(self.batches, batch_size=None)

    val_dataloader = test_dataloader = train_dataloader


def trainer(**changes):
    quiet = {
        "logger": False,
        "enable_checkpointing": False,
        "enable_progress_bar": False,
        "enable_model_summary": False,
    }
    return Trainer(**({"accelerator": "cpu", "max_epochs": 2, "log_every_n_steps": 1} | quiet | changes))


def fitted(task, **changes):
    run = trainer(**changes)
    run.fit(task, datamodule=Data())
    return {name: value.clone() for name, value in task.model.state_dict().items()}


def same(one, other):
    return all(torch.equal(one[name], other[name]) for name in one)


def test_it_learns_and_logs_metrics():
    task, run = make_task(), trainer(max_epochs=20)
    run.fit(task, datamodule=Data())
    run.test(task, datamodule=Data(), verbose=False)
    assert run.callback_metrics["test/top1"] == 1
    assert set(run.callback_metrics) == {
        f"test/{name}" for name in ("top1", "top5", "mean_class_top1", "calibration_error")
    }
    assert task.classes == CLASSES


RANDOM = {
    "mixup": lambda: Mixup(mixup_alpha=0.8, cutmix_alpha=1.0, num_classes=3),
    "random_erasing": lambda: RandomErasing(0.5, mode="pixel", device="cpu"),
}


@pytest.mark.parametrize("name", RANDOM)
def test_randomness_depends_only_on_the_seed(name):
    """Not on the global generators, which stay unchanged; another seed leads to other weights."""
    first = fitted(make_task(**{name: RANDOM[name]()}))
    task = make_task(**{name: RANDOM[name]()})
    random.seed(7), np.random.seed(7)
    before = random.getstate(), np.random.get_state()[1].copy()
    assert same(first, fitted(task))
    assert random.getstate() == before[0]
    assert (np.random.get_state()[1] == before[1]).all()
    assert not same(first, fitted(make_task(**{name: RANDOM[name]()}, seed=1)))
    assert not same(first, fitted(make_task()))


def test_smoothing_with_and_without_mixup_is_the_same_target():
    """Mixup that never mixes has the loss of label smoothing alone."""
    smoothed = fitted(make_task(label_smoothing=0.1))
    mixup = Mixup(mixup_alpha=0.8, prob=0.0, label_smoothing=0.1, num_classes=3)
    mixed = fitted(make_task(label_smoothing=0.1, mixup=mixup))
    for name, value in smoothed.items():
        torch.testing.assert_close(mixed[name], value, rtol=1e-4, atol=1e-5)


def test_accumulated_halves_are_the_whole():
    """Two batches per step have the gradient of their mean: an SGD step equals that on both at once."""
    sgd = partial(torch.optim.SGD, lr=0.1)
    halves = make_task(optimizer=sgd)
    fitted(halves, max_steps=1, accumulate_grad_batches=2)
    whole = make_task(optimizer=sgd)
    first, second = Data().batches[:2]
    images, labels = torch.cat([first.image, second.image]), torch.cat([first.label, second.label])
    F.cross_entropy(whole(whole.normalize(images)), labels).backward()
    for name, parameter in whole.model.named_parameters():
        scale = next(g["lr"] for g in whole.make_optimizer(6).param_groups if any(p is parameter for p in g["params"]))
        wanted = parameter - scale * parameter.grad
        torch.testing.assert_close(dict(halves.model.named_parameters())[name], wanted, rtol=1e-4, atol=1e-6)


def test_balanced_class_weights():
    task = make_task(class_weights="balanced")
    fitted(task)
    assert task.class_weights.tolist() == pytest.approx([2 / 3, 4 / 3, 4 / 3])


def test_class_weights_have_an_effect():
    assert same(fitted(make_task()), fitted(make_task(class_weights=[1.0, 1.0, 1.0])))
    assert not same(fitted(make_task()), fitted(make_task(class_weights=[1.0, 5.0, 1.0])))


def test_clipping_bounds_the_step():
    sgd = partial(torch.optim.SGD, lr=1.0)
    unclipped, clipped = (
        fitted(make_task(optimizer=sgd), max_steps=1, gradient_clip_val=value) for value in (None, 1e-3)
    )
    start = make_task().model.state_dict()
    moves = [sum((end[name] - start[name]).square().sum() for name in start).sqrt() for end in (unclipped, clipped)]
    assert moves[1] <= 1e-3 * 1.01
    assert moves[0] > 10 * moves[1]


def test_broken_images_are_not_evaluated():
    task, run = make_task(), trainer()
    run.test(task, datamodule=Data(broken=True), verbose=False)
    assert run.callback_metrics["test/unreadable_images"] == 4


def test_a_non_finite_gradient_ends_the_run():
    task = make_task()
    with torch.no_grad():
        task.model.head.weight.fill_(torch.nan)
    with pytest.raises(NonFiniteError, match="gradient norm nan at step 0"):
        trainer(num_sanity_val_steps=0).fit(task, datamodule=Data())


@pytest.mark.parametrize("classes", [["b", "a", "c"], ["x", "y", "z"]])
def test_a_head_for_other_classes_is_re_initialised(classes):
    task = make_task(optimizer=partial(torch.optim.SGD, lr=1e-30))
    task.model.conmim_info = BackboneInfo(None, {}, head_init_scale=0.001, weights="x", classes=classes)
    with torch.no_grad():
        task.model.head.weight.fill_(1.0)
    with pytest.warns(UserWarning, match=r"3 classes.* re-initialised"):
        after = fitted(task)["head.weight"]
    assert 0 < after.abs().max() < 1e-4


def test_a_head_for_the_same_classes_is_kept():
    task = make_task(optimizer=partial(torch.optim.SGD, lr=1e-30))
    task.model.conmim_info = BackboneInfo(None, {}, head_init_scale=0.5, weights="x", classes=CLASSES)
    before = task.model.head.weight.clone()
    assert torch.equal(fitted(task)["head.weight"], before)


def test_it_learns_in_bfloat16():
    task, run = make_task(), trainer(max_epochs=20, precision="bf16-mixed")
    run.fit(task, datamodule=Data())
    run.test(task, datamodule=Data(), verbose=False)
    assert run.callback_metrics["test/top1"] == 1


def test_another_normalisation_than_the_weights_warns():
    task = make_task()
    task.model.conmim_info = BackboneInfo(None, {}, weights="x", mean=[0.1] * 3, std=[0.25] * 3)
    with pytest.warns(
        UserWarning, match=r"trained on images of mean \[0.1, 0.1, 0.1\]; data.mean is \[0.5, 0.5, 0.5\]"
    ):
        fitted(task)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"num_classes": 4}, "classifier has 3 classes, the data 4"),
        ({"label_smoothing": 1.0}, "label_smoothing must lie in"),
        ({"class_weights": [1.0, 2.0]}, "3 positive numbers"),
        ({"class_weights": "equal"}, "got 'equal'"),
        ({"mixup": lambda x, y: (x, y), "batch_size": 5}, "even batch_size, got 5"),
        ({"warmup_epochs": 3}, "warmup_epochs must lie between 0 and epochs, 2, got 3"),
        ({"lr_scaling": "square"}, "square"),
    ],
)
def test_bad_settings(changes, message):
    with pytest.raises(ValueError, match=message):
        make_task(**changes)


@pytest.mark.parametrize("decay", [0.0, 1.5])
def test_bad_layer_decay(decay):
    with pytest.raises(ValueError, match="layer_decay must lie in"):
        make_task(layer_decay=decay).make_optimizer(6)


@pytest.mark.parametrize(
    ("image", "scores", "message"),
    [
        ((1, 32, 32), (3,), r"\(1, 32, 32\), the backbone takes \(3, 32, 32\)"),
        ((3, 32, 32), (5,), "5 classes, the task 3"),
    ],
)
def test_data_that_does_not_fit(image, scores, message):
    with pytest.raises(ValueError, match=message):
        make_task().check_shapes(image, scores)
