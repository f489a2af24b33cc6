import json
import math
import subprocess
import sys

import pytest
import torch
from hydra import compose, initialize_config_dir
from pretraining import fit, make_batches, make_task
from timm.models.beit import Beit
from torch.profiler import ProfilerActivity, profile

from conmim_lightning import plan
from conmim_lightning.config import CONF_DIR, check
from conmim_lightning.plan import IMAGENET, kept_checkpoints
from conmim_lightning.resolvers import register_resolvers
from conmim_lightning.speed.forecast import hours, optimizer_steps, told
from conmim_lightning.speed.operations import counted_operations, counted_parameters, operations_by_shape
from conmim_lightning.speed.remote import OutOfMemoryError
from conmim_lightning.timed import made_batch, made_task
from conmim_lightning.train import run
from conmim_lightning.weights.checkpoint import read_checkpoint


def plain_of(tmp_path, *overrides):
    register_resolvers()
    with initialize_config_dir(CONF_DIR, version_base="1.3"):
        return check(compose("plan", [*overrides, f"paths.run_dir={tmp_path}"]))


SMALL = ("backbone=vit_tiny", "task.model.projector.hidden_dim=64", "backbone.depth=3")


@pytest.mark.parametrize(
    "changes",
    [
        [],
        ["task.model.projected=needed"],
        ["task.model.checkpointing=true"],
        ["task.similarity_filter=0.5"],
        ["backbone=vit_b_rotary", "backbone.depth=2", "backbone.embed_dim=48", "backbone.num_heads=2"],
        ["backbone=vit_b_absolute", "backbone.depth=2", "backbone.embed_dim=48", "backbone.num_heads=2"],
    ],
)
def test_the_shapes_and_torch_agree_on_the_operations(tmp_path, changes):
    plain = plain_of(tmp_path, *SMALL, *changes)
    task, batch = made_task(plain), made_batch(plain, 2)
    counted = sum(counted_operations(task, batch).values()) / 2
    if not isinstance(task.model.student.encoder.backbone, Beit):  # torch's fused attention: its logits once more
        counted -= 2 * 197**2 * plain["backbone"]["embed_dim"] * plain["backbone"]["depth"]
    assert counted == pytest.approx(operations_by_shape(task, batch.most_hidden)["step"], rel=1e-6)


def test_the_profiler_agrees_on_the_operations(tmp_path):
    plain = plain_of(tmp_path, *SMALL)
    task, batch = made_task(plain), made_batch(plain, 2)
    views = task.perturbation(batch.crop, batch.perturbation)
    with profile(activities=[ProfilerActivity.CPU], with_flops=True) as profiler:
        keys = task.model.teach(views[1])
        task.loss(task.model.student(views[0], batch.mask), keys, batch.mask).backward()
    told = sum(event.flops for event in profiler.key_averages()) / 2
    assert told == pytest.approx(operations_by_shape(task, batch.most_hidden)["step"], rel=0.03)  # and additions


@pytest.mark.parametrize(
    ("experiment", "gflop", "million"),
    [
        ("vit_s_pretrain", 67.4, 21.6),
        pytest.param("vit_b_pretrain", 173.5, 85.8, marks=pytest.mark.slow),
        pytest.param("vit_l_pretrain", 527, 303.4, marks=pytest.mark.slow),
    ],
)
def test_the_recipes(tmp_path, experiment, gflop, million):
    """Worked out by hand in the notes on the method: a step of an image at 224 pixels, the projector on every token."""
    task = made_task(plain_of(tmp_path, f"experiment={experiment}"))
    hidden = round(0.6 * 196)
    assert operations_by_shape(task, hidden)["step"] / 1e9 == pytest.approx(gflop, rel=2e-3)
    assert counted_parameters(task.model.student)["encoder"] / 1e6 == pytest.approx(million, rel=5e-3)


def made_forecast(**changes):
    found = {
        "device": "a device", "precision": "bf16-mixed", "batch_size": 64, "images": 1000, "epochs": 36,
        "counted_images": True, "accumulate": 2, "devices": [1, 4],
        "parameters": {"encoder": 10**6, "projector": 10**6},
        "operations": dict.fromkeys(("encoder", "projector", "teacher", "loss", "step", "counted"), 10.0**9),
        "memory": dict.fromkeys(("weights", "gradients", "optimizer", "image", "batch_size", "peak", "limit"), 8),
        "largest_batch": 70, "timed": {"batch_size": 8, "seconds": [0.8, 0.7, 0.9], "ceiling": 1e12},
        "checkpoint": {"bytes": 2**30, "seconds": 1.5, "kept": 2},
    }  # fmt: skip
    return found | changes


def test_hours_are_those_of_all_images_at_the_median_rate():
    found = made_forecast()
    assert hours(found, 1) == pytest.approx(1000 * 36 / 10 / 3600)
    assert hours(found, 4) == pytest.approx(hours(found, 1) / 4)
    lines = told(found)
    assert "1 devices        1.0 h   288 steps of 128 images; data at 10 images/s" in lines
    assert "4 devices        0.2 h   72 steps of 512 images; data at 40 images/s" in lines
    assert "data.batch_size 64 fits" in lines
    assert "2.00 GiB at most, for 2 at once" in lines


@pytest.mark.parametrize("accumulate", [1, 2, 3, 5])
def test_the_steps_are_those_that_the_trainer_takes(accumulate):
    task = make_task()
    fit(task, make_batches(), accumulate_grad_batches=accumulate, max_epochs=2)
    batches = len(list(make_batches()))
    found = made_forecast(images=4 * batches + 3, batch_size=4, epochs=2, accumulate=accumulate)
    assert optimizer_steps(found, 1) == task.trainer.global_step == task.trainer.estimated_stepping_batches


def test_whose_images_are_counted_is_told():
    assert "1,000 images; hours" in told(made_forecast())
    assert "1,000 images (ImageNet-1K's; data.root= or plan.images= tell yours); hours" in told(
        made_forecast(counted_images=False)
    )


def test_a_batch_that_does_not_fit_is_told():
    assert "data.batch_size 64 does NOT fit: take data.batch_size=40 or less" in told(made_forecast(largest_batch=40))
    assert "not even one image" in told(made_forecast(largest_batch=0))


@pytest.mark.parametrize(
    ("changes", "kept"),
    [
        ([], 2),
        (["callbacks.checkpoint.save_top_k=3"], 4),
        (["callbacks.checkpoint.save_top_k=-1", "callbacks.checkpoint.every_n_epochs=10"], 31),
    ],
)
def test_kept_checkpoints(tmp_path, changes, kept):
    assert kept_checkpoints(plain_of(tmp_path, *changes)) == kept


CUDA = torch.device("cuda")


class Device:
    """A GPU that takes 10 MB an image besides 100 MB, and says that it runs out of memory above ``there_is``."""

    def __init__(self, monkeypatch, there_is):
        self.there_is, self.tried = there_is, []
        monkeypatch.setattr(plan, "_measured", self.measured)

    def measured(self, plain, precision, size):
        self.tried.append(size)
        peak = 10**7 * (10 + size)
        if peak > self.there_is:
            raise OutOfMemoryError("CUDA out of memory")
        return {"seconds": [0.1 * size], "peak": peak, "held": {}, "saved": {}}


@pytest.mark.parametrize("accumulate", [1, 4])
def test_a_gpu_keeps_views_for_the_diagnosis(tmp_path, accumulate, monkeypatch):
    Device(monkeypatch, math.inf)
    big = ["data.batch_size=1000", "plan.memory=4", f"schedule.accumulate={accumulate}"]
    views = 2 * (2 * accumulate - 1) * 4 * 3 * 48**2  # of two steps, but for the batch at hand; float32
    plain = plain_of(tmp_path, *SMALL, *big)
    found = plan._timed(plain, "bf16-mixed", CUDA)
    assert found["memory"]["image"] == 10**7 + views
    assert found["largest_batch"] == int((4 * 2**30 - 10**8) / (10**7 + views))
    without = plain_of(tmp_path, *SMALL, *big, "~callbacks.divergence")
    for given, device in ((plain, torch.device("cpu")), (without, CUDA)):
        assert plan._timed(given, "bf16-mixed", device)["memory"]["image"] == 10**7


@pytest.mark.parametrize(("memory", "largest"), [("null", 196), ("80", int((80 * 2**30 - 10**8) / 10**7))])
def test_a_batch_that_memory_does_not_suffice_for_is_made_smaller(tmp_path, monkeypatch, memory, largest):
    """But what is told of another device's memory stays."""
    plain = plain_of(tmp_path, *SMALL, "data.batch_size=256", f"plan.memory={memory}", "~callbacks.divergence")
    device = Device(monkeypatch, 10**7 * (10 + 200))
    monkeypatch.setattr("conmim_lightning.speed.device.memory_limit", lambda device, gib: int((gib or 4) * 2**30))
    found = plan._timed(plain, "bf16-mixed", CUDA)
    assert device.tried == [16, 32, 256, 224, 196]
    assert found["largest_batch"] == largest
    assert found["timed"]["batch_size"] == 196
    assert found["timed"]["seconds"] == [pytest.approx(19.6)]


def test_a_gpu_is_timed_at_the_batch_that_is_wanted(tmp_path, monkeypatch):
    plain = plain_of(tmp_path, *SMALL, "data.batch_size=256", "plan.memory=80", "~callbacks.divergence")
    Device(monkeypatch, math.inf)
    found = plan._timed(plain, "bf16-mixed", CUDA)
    assert found["timed"]["batch_size"] == 256
    assert found["largest_batch"] == int((80 * 2**30 - 10**8) / 10**7)


@pytest.mark.slow
def test_the_command(tiny, composed, tmp_path):
    """A screen, a file, and the size of the checkpoint that a run then writes."""
    command = [sys.executable, "-m", "conmim_lightning.plan", "experiment=quickstart", *tiny, "plan.devices=[1,3]"]
    done = subprocess.run(
        [*command, f"paths.run_dir={tmp_path}/plan"],
        cwd=tmp_path, capture_output=True, text=True, timeout=300, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert len(done.stdout.splitlines()) < 24
    assert "3 devices" in done.stdout
    found = json.loads((tmp_path / "plan" / "plan.json").read_text())
    assert 0 < found["images"] < IMAGENET
    run(composed("experiment=quickstart", *tiny, f"paths.run_dir={tmp_path}/run", "trainer.max_steps=1"))
    written = (tmp_path / "run" / "checkpoints" / "last.ckpt").stat().st_size
    assert written == pytest.approx(found["checkpoint"]["bytes"], rel=0.25), "a small model beside the run's record"
    assert read_checkpoint(f"{tmp_path}/run")["state_dict"]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("overrides", "told"),
    [
        (["plan.stesp=1"], "stesp"),
        (["plan.images=0"], "images"),
        (["plan.devices=4"], "plan.devices: must be a list of numbers of devices, each at least 1, got 4"),
        (["plan.devices=[1,0]"], "each at least 1, got [1, 0]"),
        (["trainer.accelerator=gpu"], "torch finds no GPU here"),
        (["trainer.accelerator=tpu"], "'tpu' cannot be timed"),
        (["trainer.precision=64-true"], "64-true"),
        (["experiment=quickstart_finetune_from_scratch"], "pre-training"),
    ],
)
def test_mistakes_end_with_a_sentence(tmp_path, overrides, told):
    done = subprocess.run(
        [sys.executable, "-m", "conmim_lightning.plan", *overrides],
        cwd=tmp_path, capture_output=True, text=True, timeout=120, check=False,
    )  # fmt: skip
    assert done.returncode == 1
    assert told in done.stderr
    assert "Traceback" not in done.stderr
