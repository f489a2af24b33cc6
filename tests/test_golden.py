"""The figures of the official code, reproduced by the project's own modules, wiring and schedules in float64.

Source: tests/data/pretrain_steps.{json,safetensors} and schedules.json, measured on TencentARC/ConMIM.
"""

import json
import re
from functools import partial
from types import SimpleNamespace

import pytest
import torch
from conftest import GOLDEN, beit
from lightning import Callback, Trainer
from safetensors.torch import load_file
from torch.utils.data import DataLoader

from conmim_lightning.batches import PretrainViews
from conmim_lightning.metrics.alignment import alignment
from conmim_lightning.models.conmim import ConMIM
from conmim_lightning.models.projector import Projector
from conmim_lightning.optim.schedules import cosine, warmup_cosine
from conmim_lightning.perturbation.apply import Perturbation
from conmim_lightning.tasks.pretrain import PretrainTask
from conmim_lightning.weights.official import branch_from_official, from_official

EXACT = 1e-9


def official():
    figures = json.loads((GOLDEN / "pretrain_steps.json").read_text())
    return figures, load_file(GOLDEN / "pretrain_steps.safetensors")


class Recorder(Callback):
    """Notes what the official figures speak of, and stops after their last step."""

    def __init__(self, steps):
        self.steps = steps
        self.rates, self.momenta, self.norms, self.losses, self.accuracies = [], [], [], [], []
        self.gradients, self.queries, self.keys = {}, None, None

    def on_train_start(self, trainer, task):
        clip = task.configure_gradient_clipping

        def clip_and_note(*given, **named):
            clip(*given, **named)
            if not self.gradients:  # as the optimizer sees them: the official figures are of after the clipping
                parameters = task.model.student.named_parameters()
                self.gradients = {name: parameter.grad.clone() for name, parameter in parameters}

        task.configure_gradient_clipping = clip_and_note

    def on_train_batch_start(self, trainer, task, batch, batch_idx):
        self.rates.append([group["lr"] for group in trainer.optimizers[0].param_groups])
        self.momenta.append(task.teacher_momentum(trainer.global_step))

    def on_train_batch_end(self, trainer, task, outputs, batch, batch_idx):
        self.losses.append(trainer.callback_metrics["train/loss"].item())
        self.norms.append(trainer.callback_metrics["optim/grad_norm"].item())
        self.accuracies.append(trainer.callback_metrics["train/retrieval_top1"].item())
        trainer.should_stop = trainer.global_step == self.steps


@pytest.fixture(scope="module")
def reproduced():
    """The four official steps, through Trainer and PretrainTask."""
    figures, tensors = official()
    before = torch.get_default_dtype()
    torch.set_default_dtype(torch.float64)
    try:
        model = ConMIM(
            backbone=beit(
                img_size=figures["image_size"],
                patch_size=figures["patch_size"],
                embed_dim=figures["embed_dim"],
                depth=figures["depth"],
                num_heads=figures["num_heads"],
                init_values=figures["layer_scale_init"],
            ),
            projector=partial(Projector, hidden_dim=figures["projector_hidden"], out_dim=figures["projector_out"]),
        )
        start = {name.removeprefix("init."): value for name, value in tensors.items() if name.startswith("init.")}
        for branch in (model.student, model.teacher.branch):
            branch.load_state_dict(branch_from_official(start), strict=True)
        schedule, optimizer = figures["lr"], figures["optimizer"]
        perturbation = Perturbation(**figures["normalize"], strengths=("weak", "weak"), largest_sigma=2.0)
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
            batch_size=figures["batch_size"],
            epochs=schedule["epochs"],
            warmup_epochs=schedule["warmup_epochs"],
            min_lr=schedule["min"],
            temperature=figures["temperature"],
            momentum_start=figures["teacher_momentum"],
            monitor_every=1,
        )
        views = [perturbation.normalize(tensors[f"{who}_view.uint8"].double()) for who in ("student", "teacher")]
        size, mask = figures["batch_size"], tensors["mask.bool"]
        batches = [
            PretrainViews(*(view[i : i + size] for view in views), mask[i : i + size], torch.arange(i, i + size))
            for i in range(0, len(mask), size)
        ]
        batches += [batches[-1]] * (schedule["steps_per_epoch"] - len(batches))  # never reached; they set the length
        with torch.no_grad():
            queries = model.student(batches[0].student_view, batches[0].mask)
            keys = model.teach(batches[0].teacher_view)
        # The look at queries and keys above moved BatchNorm's running averages, which nothing reads in training.
        recorder = Recorder(figures["steps"])
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
        figures=figures, tensors=tensors, task=task, recorder=recorder, queries=queries, keys=keys, mask=batches[0].mask
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
    wanted = [step[key] for step in reproduced.figures["per_step"]]
    found = getattr(reproduced.recorder, recorded)
    if key == "accuracy":  # shares of the hidden patches, computed in float32: compare the counts
        hidden = int(reproduced.mask.sum())
        found, wanted = ([round(share * hidden, 3) for share in shares] for shares in (found, wanted))
    assert found == pytest.approx(wanted, rel=EXACT)


def test_rates(reproduced):
    for rates, step in zip(reproduced.recorder.rates, reproduced.figures["per_step"], strict=True):
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
    assert accuracy.item() == pytest.approx(reproduced.figures["per_step"][0]["accuracy"], rel=1e-6)


def test_gradients(reproduced):
    wanted = reproduced.figures["step0_grad_norm_and_sum"]
    assert {from_official(name) for name in wanted} == set(reproduced.recorder.gradients)
    for name, (norm, total) in wanted.items():
        gradient = reproduced.recorder.gradients[from_official(name)]
        assert gradient.norm().item() == pytest.approx(norm, rel=EXACT), name
        # A sum of terms that cancel has the rounding of its terms, hence the norm in the absolute part; the clipped
        # gradient has length 1, and gradients that BatchNorm makes vanish are rounding of it: hence 1e-12.
        assert gradient.sum().item() == pytest.approx(total, rel=EXACT, abs=max(1e-10 * norm, 1e-12)), name


def test_parameters_at_the_end(reproduced):
    branches = {"student": reproduced.task.model.student, "teacher": reproduced.task.model.teacher.branch}
    parameters = {who: dict(branch.named_parameters()) for who, branch in branches.items()}
    wanted = reproduced.figures["final_norm_sum_first"]
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
    wanted = {from_official(name): value for name, value in reproduced.figures["weight_decay_of"].items()}
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
    """Prints the figure that RESULTS.md quotes: python -m pytest tests/test_golden.py -s -k largest."""
    recorder, steps = reproduced.recorder, reproduced.figures["per_step"]
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
    for name, (norm, _, _) in reproduced.figures["final_norm_sum_first"].items():
        who, official_name = name.split(".", 1)
        place = "student" if who == "student" else "teacher.branch"
        pairs.append((named[f"{place}.{from_official(official_name)}"].norm().item(), norm))
    for name, (norm, _) in reproduced.figures["step0_grad_norm_and_sum"].items():
        if norm > 1e-12:  # below lies rounding of gradients that BatchNorm makes vanish
            pairs.append((recorder.gradients[from_official(name)].norm().item(), norm))
    errors = [abs(ours / wanted - 1) for ours, wanted in pairs]
    for name in ("queries", "keys"):
        wanted = reproduced.tensors[f"step0.{name}"]
        errors.append(((getattr(reproduced, name)[:, :4] - wanted).norm() / wanted.norm()).item())
    largest = max(errors)
    with capsys.disabled():
        print(f"\nlargest relative error of {len(errors)} official figures: {largest:.1e}")
    assert largest < EXACT
