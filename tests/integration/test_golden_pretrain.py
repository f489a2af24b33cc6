"""Four training steps of the official code, reproduced by our modules, task and schedules in float64.

Source: tests/golden/pretrain_steps.{json,safetensors} and schedules.json, measured on TencentARC/ConMIM.
"""

import json
import re
from functools import partial
from types import SimpleNamespace

import pytest
import torch
from conftest import GOLDEN, beit
from lightning import Callback, Trainer
from official_names import branch_from_official, from_official
from safetensors.torch import load_file
from torch.utils.data import DataLoader

from conmim_lightning.batches import PretrainViews
from conmim_lightning.losses.patch_info_nce import PatchInfoNCE
from conmim_lightning.metrics.alignment import alignment
from conmim_lightning.models.conmim import ConMIM
from conmim_lightning.models.projector import Projector
from conmim_lightning.optim.recipe import PretrainSchedule
from conmim_lightning.optim.schedules import cosine, warmup_cosine
from conmim_lightning.perturbation.apply import Perturbation
from conmim_lightning.tasks.pretrain import PretrainTask

EXACT = 1e-9


def read_official():
    values = json.loads((GOLDEN / "pretrain_steps.json").read_text())
    return values, load_file(GOLDEN / "pretrain_steps.safetensors")


class Recorder(Callback):
    """Record what the official values cover, and stop after their last step."""

    def __init__(self, steps):
        self.steps = steps
        self.rates, self.momenta, self.norms, self.losses, self.accuracies = [], [], [], [], []
        self.gradients, self.queries, self.keys = {}, None, None

    def on_train_start(self, trainer, task):
        clip = task.configure_gradient_clipping

        def clip_and_record(*args, **kwargs):
            clip(*args, **kwargs)
            if not self.gradients:  # the official values are those after clipping
                parameters = task.model.student.named_parameters()
                self.gradients = {name: parameter.grad.clone() for name, parameter in parameters}

        task.configure_gradient_clipping = clip_and_record

    def on_train_batch_start(self, trainer, task, batch, batch_idx):
        self.rates.append([group["lr"] for group in trainer.optimizers[0].param_groups])
        self.momenta.append(task.pretrain_schedule.teacher_momentum(trainer.global_step, trainer))

    def on_train_batch_end(self, trainer, task, outputs, batch, batch_idx):
        self.losses.append(trainer.callback_metrics["train/loss"].item())
        self.norms.append(trainer.callback_metrics["optim/grad_norm"].item())
        self.accuracies.append(trainer.callback_metrics["train/retrieval_top1"].item())
        trainer.should_stop = trainer.global_step == self.steps


@pytest.fixture(scope="module")
def reproduced():
    """The four official steps, through Trainer and PretrainTask."""
    official, tensors = read_official()
    before = torch.get_default_dtype()
    torch.set_default_dtype(torch.float64)
    try:
        model = ConMIM(
            backbone=beit(
                img_size=official["image_size"],
                patch_size=official["patch_size"],
                embed_dim=official["embed_dim"],
                depth=official["depth"],
                num_heads=official["num_heads"],
                init_values=official["layer_scale_init"],
            ),
            projector=partial(Projector, hidden_dim=official["projector_hidden"], out_dim=official["projector_out"]),
        )
        start = {name.removeprefix("init."): value for name, value in tensors.items() if name.startswith("init.")}
        for branch in (model.student, model.teacher.branch):
            branch.load_state_dict(branch_from_official(start), strict=True)
        schedule, optimizer = official["lr"], official["optimizer"]
        perturbation = Perturbation(**official["normalize"], strengths=("weak", "weak"), largest_sigma=2.0)
        task = PretrainTask(
            model=model,
            perturbation=perturbation,
            optimizer=partial(
                torch.optim.AdamW,
                lr=schedule["peak"],
                betas=tuple(optimizer["betas"]),
                eps=optimizer["eps"],
                weight_decay=optimizer["weight_decay"],
            ),
            batch_size=official["batch_size"],
            schedule=PretrainSchedule(
                epochs=schedule["epochs"],
                warmup_epochs=schedule["warmup_epochs"],
                min_lr=schedule["min"],
                teacher_momentum_start=official["teacher_momentum"],
            ),
            loss=PatchInfoNCE(temperature=official["temperature"]),
            log_every_n_steps=1,
        )
        views = [perturbation.normalize(tensors[f"{who}_view.uint8"].double()) for who in ("student", "teacher")]
        size, mask = official["batch_size"], tensors["mask.bool"]
        batches = [
            PretrainViews(*(view[i : i + size] for view in views), mask[i : i + size], torch.arange(i, i + size))
            for i in range(0, len(mask), size)
        ]
        batches += [batches[-1]] * (schedule["steps_per_epoch"] - len(batches))  # never reached; they set the length
        with torch.no_grad():
            queries = model.student(batches[0].student_view, batches[0].mask)
            keys = model.teach(batches[0].teacher_view)
        # The forward passes above changed BatchNorm's running averages, which training does not read.
        recorder = Recorder(official["steps"])
        trainer = Trainer(
            accelerator="cpu",
            max_epochs=schedule["epochs"],
            gradient_clip_val=optimizer["clip_global_norm"],
            precision="64-true",
            logger=False,
            enable_checkpointing=False,
            enable_progress_bar=False,
            enable_model_summary=False,
            callbacks=[recorder],
        )
        trainer.fit(task, DataLoader(batches, batch_size=None))
    finally:
        torch.set_default_dtype(before)
    return SimpleNamespace(
        official=official,
        tensors=tensors,
        task=task,
        recorder=recorder,
        queries=queries,
        keys=keys,
        mask=batches[0].mask,
    )


@pytest.mark.parametrize(
    ("recorded", "key"),
    [
        ("losses", "loss"),
        ("norms", "grad_norm_before_clip"),
        ("momenta", "teacher_momentum"),
        ("accuracies", "accuracy"),
    ],
)
def test_each_step(reproduced, recorded, key):
    expected = [step[key] for step in reproduced.official["per_step"]]
    result = getattr(reproduced.recorder, recorded)
    if key == "accuracy":  # fractions of the hidden patches, computed in float32: compare the counts
        hidden = int(reproduced.mask.sum())
        result, expected = ([round(value * hidden, 3) for value in values] for values in (result, expected))
    assert result == pytest.approx(expected, rel=EXACT)


def test_rates(reproduced):
    for rates, step in zip(reproduced.recorder.rates, reproduced.official["per_step"], strict=True):
        assert rates == pytest.approx([step["lr"]] * 2, rel=EXACT)


def test_queries_keys_and_logits(reproduced):
    tensors, mask = reproduced.tensors, reproduced.mask.flatten(1)
    for name in ("queries", "keys"):
        torch.testing.assert_close(getattr(reproduced, name)[:, :4], tensors[f"step0.{name}"], rtol=EXACT, atol=1e-12)
    logits = reproduced.task.loss.logits(
        reproduced.queries, reproduced.keys, torch.arange(mask.shape[1]).expand_as(mask)
    )[mask][:8]
    torch.testing.assert_close(logits, tensors["step0.logits"], rtol=EXACT, atol=1e-12)
    accuracy = alignment(reproduced.queries, reproduced.keys, reproduced.mask)["retrieval_top1"]
    assert accuracy.item() == pytest.approx(reproduced.official["per_step"][0]["accuracy"], rel=1e-6)


def test_gradients(reproduced):
    wanted = reproduced.official["step0_grad_norm_and_sum"]
    assert {from_official(name) for name in wanted} == set(reproduced.recorder.gradients)
    for name, (norm, total) in wanted.items():
        gradient = reproduced.recorder.gradients[from_official(name)]
        assert gradient.norm().item() == pytest.approx(norm, rel=EXACT), name
        # A sum of terms that cancel has the rounding of its terms, hence the norm in the absolute part; the clipped
        # gradient has length 1, and gradients that BatchNorm makes vanish are its rounding, hence 1e-12.
        assert gradient.sum().item() == pytest.approx(total, rel=EXACT, abs=max(1e-10 * norm, 1e-12)), name


def test_parameters_at_the_end(reproduced):
    branches = {"student": reproduced.task.model.student, "teacher": reproduced.task.model.teacher.branch}
    parameters = {who: dict(branch.named_parameters()) for who, branch in branches.items()}
    wanted = reproduced.official["final_norm_sum_first"]
    assert len(wanted) == sum(len(named) for named in parameters.values())
    for name, (norm, total, first) in wanted.items():
        who, official_name = name.split(".", 1)
        parameter = parameters[who][from_official(official_name)]
        assert parameter.norm().item() == pytest.approx(norm, rel=EXACT), name
        assert parameter.sum().item() == pytest.approx(total, rel=EXACT, abs=1e-10 * norm), name
        assert parameter.flatten()[0].item() == pytest.approx(first, rel=EXACT, abs=1e-12), name


def test_which_parameters_decay(reproduced):
    names = {id(parameter): name for name, parameter in reproduced.task.model.student.named_parameters()}
    decay = {
        names[id(parameter)]: group["weight_decay"]
        for group in reproduced.task.trainer.optimizers[0].param_groups
        for parameter in group["params"]
    }
    wanted = {from_official(name): value for name, value in reproduced.official["weight_decay_of"].items()}
    assert decay == wanted


@pytest.mark.parametrize("title", json.loads((GOLDEN / "schedules.json").read_text()))
def test_schedules(title):
    wanted = json.loads((GOLDEN / "schedules.json").read_text())[title]
    numbers = {
        "lr warmup 2 epochs, 5 epochs x 7 steps, 1.5e-3 to 1e-5": (14, 1.5e-3, 1e-5),
        "fine-tune lr 4e-3 to 1e-6, warm-up 1 of 3 epochs x 11": (11, 4e-3, 1e-6),
    }
    if re.match("teacher momentum", title):
        ours = [cosine(step, total_steps=35, start=0.996, end=1.0) for step in range(35)]
    else:
        warmup, peak, end = numbers[title]
        total = len(wanted)
        ours = [
            warmup_cosine(step, total_steps=total, warmup_steps=warmup, peak=peak, end=end) for step in range(total)
        ]
    assert ours == pytest.approx(wanted, rel=EXACT)


def test_largest_relative_error(reproduced, record_property, capsys):
    """Print the number in RESULTS.md: python -m pytest tests/integration/test_golden_pretrain.py -s -k largest."""
    recorder, steps = reproduced.recorder, reproduced.official["per_step"]
    pairs = [
        (ours, step[key])
        for ours_all, key in (
            (recorder.losses, "loss"),
            (recorder.norms, "grad_norm_before_clip"),
            (recorder.momenta, "teacher_momentum"),
        )
        for ours, step in zip(ours_all, steps, strict=True)
    ]
    named = dict(reproduced.task.model.named_parameters())
    for name, (norm, _, _) in reproduced.official["final_norm_sum_first"].items():
        who, official_name = name.split(".", 1)
        branch = "student" if who == "student" else "teacher.branch"
        pairs.append((named[f"{branch}.{from_official(official_name)}"].norm().item(), norm))
    for name, (norm, _) in reproduced.official["step0_grad_norm_and_sum"].items():
        if norm > 1e-12:  # below is rounding of gradients that BatchNorm makes vanish
            pairs.append((recorder.gradients[from_official(name)].norm().item(), norm))
    errors = [abs(ours / wanted - 1) for ours, wanted in pairs]
    for name in ("queries", "keys"):
        wanted = reproduced.tensors[f"step0.{name}"]
        errors.append(((getattr(reproduced, name)[:, :4] - wanted).norm() / wanted.norm()).item())
    largest = max(errors)
    with capsys.disabled():
        print(f"\nlargest relative error of {len(errors)} official values: {largest:.1e}")
    assert largest < EXACT
