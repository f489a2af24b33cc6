"""Fine-tuning under Lightning's Trainer."""

import random
from functools import partial

import numpy as np
import pytest
import torch
from conftest import beit
from lightning import Callback, LightningDataModule, Trainer, seed_everything
from timm.data import Mixup
from timm.data.random_erasing import RandomErasing
from torch.nn import functional as F
from torch.utils.data import DataLoader

from conmim_lightning.batches import LabelledBatch
from conmim_lightning.callbacks.average import WarmedAverage
from conmim_lightning.models.normalize import Normalize
from conmim_lightning.optim.non_finite import NonFiniteError
from conmim_lightning.tasks.classification import ClassificationTask
from conmim_lightning.tasks.labels import balanced_weights

CLASSES = ["a", "b", "c"]


def make_task(**changes):
    seed_everything(0, verbose=False)
    arguments = {
        "model": beit(num_classes=3, global_pool="avg", use_shared_rel_pos_bias=False, use_rel_pos_bias=True),
        "normalize": Normalize([0.5] * 3, [0.25] * 3),
        "num_classes": 3,
        "optimizer": partial(torch.optim.AdamW, lr=1e-2, weight_decay=0.05),
        "batch_size": 6,
        "epochs": 2,
        "warmup_epochs": 0,
        "min_lr": 0.0,
        "reference_batch": 6,
        "label_smoothing": 0.0,
    }
    return ClassificationTask(**(arguments | changes))


class Data(LightningDataModule):
    """Four batches of six images; class c is brighter than b than a; twice as many of a as of b or c."""

    def __init__(self, broken=False):
        super().__init__()
        noise = torch.Generator().manual_seed(0)
        self.classes, self.mean, self.std, self.batches = CLASSES, (0.5,) * 3, (0.25,) * 3, []
        for number in range(4):
            label = torch.tensor([0, 0, 0, 1, 2, 1 if number % 2 else 2])
            image = 60 * label.view(-1, 1, 1, 1) + torch.randint(0, 50, (6, 3, 32, 32), generator=noise)
            told = ["x\tbroken" if broken and place == 0 else "" for place in range(6)]
            label[0] = -1 if broken else label[0]
            self.batches.append(LabelledBatch(image.byte(), label, torch.arange(6) + 6 * number, told))

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


def test_it_learns_and_says_so():
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
    "erasing": lambda: RandomErasing(0.5, mode="pixel", device="cpu"),
}


@pytest.mark.parametrize("name", RANDOM)
def test_what_is_random_follows_from_the_seed_alone(name):
    """Not from the global generators, which it leaves as they were; another seed gives other weights."""
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
    """Mixup that never mixes gives the loss of plain smoothing."""
    plain = fitted(make_task(label_smoothing=0.1))
    mixup = Mixup(mixup_alpha=0.8, prob=0.0, label_smoothing=0.1, num_classes=3)
    mixed = fitted(make_task(label_smoothing=0.1, mixup=mixup))
    for name, value in plain.items():
        torch.testing.assert_close(mixed[name], value, rtol=1e-4, atol=1e-5)


def test_accumulated_halves_are_the_whole():
    """Two batches a step give the gradient of their mean: one SGD step equals that on both at once."""
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


def test_balanced_weights_by_hand():
    assert balanced_weights([12, 6, 6]).tolist() == pytest.approx([2 / 3, 4 / 3, 4 / 3])
    task = make_task(class_weights="balanced")
    fitted(task)
    assert task.class_weights.tolist() == pytest.approx([2 / 3, 4 / 3, 4 / 3])


def test_weights_of_classes_weigh():
    assert same(fitted(make_task()), fitted(make_task(class_weights=[1.0, 1.0, 1.0])))
    assert not same(fitted(make_task()), fitted(make_task(class_weights=[1.0, 5.0, 1.0])))


def test_clipping_bounds_the_step():
    sgd = partial(torch.optim.SGD, lr=1.0)
    free, clipped = (fitted(make_task(optimizer=sgd), max_steps=1, gradient_clip_val=value) for value in (None, 1e-3))
    start = make_task().model.state_dict()
    moved = [sum((end[name] - start[name]).square().sum() for name in start).sqrt() for end in (free, clipped)]
    assert moved[1] <= 1e-3 * 1.01
    assert moved[0] > 10 * moved[1]


def test_broken_images_are_not_judged():
    task, run = make_task(), trainer()
    run.test(task, datamodule=Data(broken=True), verbose=False)
    assert run.callback_metrics["test/unreadable_images"] == 4


def test_a_gradient_that_is_not_finite_stops():
    task = make_task()
    with torch.no_grad():
        task.model.head.weight.fill_(torch.nan)
    with pytest.raises(NonFiniteError, match="gradient norm nan at step 0"):
        trainer(num_sanity_val_steps=0).fit(task, datamodule=Data())


def test_the_moving_average_by_hand():
    """Against the recursion on the weights that were trained, its decay growing with the updates."""
    trained = []

    class Watch(Callback):
        def on_train_batch_end(self, trainer, task, outputs, batch, batch_idx):
            trained.append(task.model.head.weight.detach().clone())

    task = make_task()
    trainer(callbacks=[Watch(), WarmedAverage(decay=0.25)]).fit(task, datamodule=Data())
    wanted = trained[0]  # the first update copies
    for updates, weight in enumerate(trained[1:], start=1):
        decay = min(0.25, (1 + updates) / (10 + updates))
        wanted = decay * wanted + (1 - decay) * weight
    torch.testing.assert_close(task.model.head.weight.detach(), wanted)
    assert not torch.equal(wanted, trained[-1])


def test_a_decay_out_of_range():
    with pytest.raises(ValueError, match="decay of the average must lie in"):
        WarmedAverage(decay=1.0)


@pytest.mark.parametrize("known", [["b", "a", "c"], ["x", "y", "z"]])
def test_a_head_for_other_classes_is_drawn_anew(known):
    task = make_task(optimizer=partial(torch.optim.SGD, lr=1e-30))
    task.model.trained_classes, task.model.head_scale = known, 0.001
    with torch.no_grad():
        task.model.head.weight.fill_(1.0)
    with pytest.warns(UserWarning, match=r"knows 3 classes, .* drawn anew"):
        after = fitted(task)["head.weight"]
    assert 0 < after.abs().max() < 1e-4


def test_a_head_for_the_same_classes_stays():
    task = make_task(optimizer=partial(torch.optim.SGD, lr=1e-30))
    task.model.trained_classes, task.model.head_scale = CLASSES, 0.5
    before = task.model.head.weight.clone()
    assert torch.equal(fitted(task)["head.weight"], before)


def test_bfloat16_learns_too():
    task, run = make_task(), trainer(max_epochs=20, precision="bf16-mixed")
    run.fit(task, datamodule=Data())
    run.test(task, datamodule=Data(), verbose=False)
    assert run.callback_metrics["test/top1"] == 1


def test_other_normalisation_than_the_weights_is_told():
    task = make_task()
    task.model.trained_on = ([0.1] * 3, [0.25] * 3)
    with pytest.warns(
        UserWarning, match=r"trained on images of mean \[0.1, 0.1, 0.1\]; data.mean is \[0.5, 0.5, 0.5\]"
    ):
        fitted(task)


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"num_classes": 4}, "classifier has 3 classes, the data 4"),
        ({"label_smoothing": 1.0}, "label_smoothing must lie in"),
        ({"class_weights": [1.0, 2.0]}, "3 positive numbers"),
        ({"class_weights": "equal"}, "got 'equal'"),
        ({"mixup": lambda x, y: (x, y), "batch_size": 5}, "even batch_size, got 5"),
        ({"warmup_epochs": 3}, "from 0 to its length, got 3 and 2"),
        ({"lr_scaling": "square"}, "square"),
    ],
)
def test_bad_settings(changes, told):
    with pytest.raises(ValueError, match=told):
        make_task(**changes)


@pytest.mark.parametrize("decay", [0.0, 1.5])
def test_bad_layer_decay(decay):
    with pytest.raises(ValueError, match="layer_decay must lie in"):
        make_task(layer_decay=decay).make_optimizer(6)


@pytest.mark.parametrize(
    ("image", "scores", "told"),
    [
        ((1, 32, 32), (3,), r"\(1, 32, 32\), the backbone takes \(3, 32, 32\)"),
        ((3, 32, 32), (5,), "5 classes, the task 3"),
    ],
)
def test_data_that_does_not_fit(image, scores, told):
    with pytest.raises(ValueError, match=told):
        make_task().check_shapes(image, scores)
