import math

import pytest
import torch
from estimates import ESTIMATE
from pretraining import fit, make_batches, make_task
from profiling_config import plan_config

from conmim_lightning.profiling.estimate import Estimate, hours, num_checkpoints, optimizer_steps
from conmim_lightning.profiling.worker import OutOfMemoryError

SMALL = ("backbone=vit_tiny", "task.model.projector.hidden_dim=64", "backbone.depth=3")
CUDA = torch.device("cuda")


def test_hours_are_those_of_all_images_at_the_median_rate():
    assert hours(ESTIMATE, 1) == pytest.approx(1000 * 36 / 10 / 3600)
    assert hours(ESTIMATE, 4) == pytest.approx(hours(ESTIMATE, 1) / 4)


@pytest.mark.parametrize("accumulate", [1, 2, 3, 5])
def test_steps_are_those_that_the_trainer_takes(accumulate):
    task = make_task()
    fit(task, make_batches(), accumulate_grad_batches=accumulate, max_epochs=2)
    batches = len(list(make_batches()))
    changes = {"images": 4 * batches + 3, "batch_size": 4, "epochs": 2, "accumulate_grad_batches": accumulate}
    steps = optimizer_steps(ESTIMATE | changes, 1)
    assert steps == task.trainer.global_step == task.trainer.estimated_stepping_batches


@pytest.mark.parametrize(
    ("changes", "kept"),
    [
        ([], 3),
        (["callbacks.checkpoint.save_top_k=3"], 4),
        (["callbacks.checkpoint.save_top_k=-1", "callbacks.checkpoint.every_n_epochs=10"], 31),
    ],
)
def test_kept_checkpoints(tmp_path, changes, kept):
    assert num_checkpoints(plan_config(tmp_path, *changes)) == kept


def estimate_on(monkeypatch, available, config):
    """An estimate on a GPU that needs 10 MB per image and 100 MB, and the batch sizes that it has tried."""
    estimate, tried = Estimate(memory=config["plan"]["memory"]), []

    def measure(config, precision, size):
        tried.append(size)
        peak = 10**7 * (10 + size)
        if peak > available:
            raise OutOfMemoryError("CUDA out of memory")
        return {"seconds": [0.1 * size], "peak": peak, "held": {}, "saved": {}}

    monkeypatch.setattr(estimate, "_measure", measure)
    return estimate, tried


@pytest.mark.parametrize("accumulate", [1, 4])
def test_a_gpu_stores_views_for_the_diagnosis(tmp_path, accumulate, monkeypatch):
    big = ["data.batch_size=1000", "plan.memory=4", f"schedule.accumulate_grad_batches={accumulate}"]
    views = 2 * (2 * accumulate - 1) * 4 * 3 * 48**2  # of two steps, except the batch at hand; float32
    config = plan_config(tmp_path, *SMALL, *big)
    estimate, _ = estimate_on(monkeypatch, math.inf, config)
    result = estimate._measurements(config, "bf16-mixed", CUDA)
    assert result["memory"]["image"] == 10**7 + views
    assert result["largest_batch"] == int((4 * 2**30 - 10**8) / (10**7 + views))
    without = plan_config(tmp_path, *SMALL, *big, "~callbacks.non_finite_dump")
    for given, device in ((config, torch.device("cpu")), (without, CUDA)):
        assert estimate._measurements(given, "bf16-mixed", device)["memory"]["image"] == 10**7


@pytest.mark.parametrize(("memory", "largest"), [("null", 196), ("80", int((80 * 2**30 - 10**8) / 10**7))])
def test_a_batch_that_does_not_fit_is_made_smaller(tmp_path, monkeypatch, memory, largest):
    """The largest batch of another device, whose memory is given, is not affected."""
    config = plan_config(tmp_path, *SMALL, "data.batch_size=256", f"plan.memory={memory}", "~callbacks.non_finite_dump")
    estimate, tried = estimate_on(monkeypatch, 10**7 * (10 + 200), config)
    limit = lambda device, gib: int((gib or 4) * 2**30)  # noqa: E731
    monkeypatch.setattr("conmim_lightning.profiling.estimate.memory_limit", limit)
    result = estimate._measurements(config, "bf16-mixed", CUDA)
    assert tried == [16, 32, 256, 224, 196]
    assert result["largest_batch"] == largest
    assert result["timed"]["batch_size"] == 196
    assert result["timed"]["seconds"] == [pytest.approx(19.6)]


def test_a_gpu_is_timed_at_the_configured_batch_size(tmp_path, monkeypatch):
    config = plan_config(tmp_path, *SMALL, "data.batch_size=256", "plan.memory=80", "~callbacks.non_finite_dump")
    estimate, _ = estimate_on(monkeypatch, math.inf, config)
    result = estimate._measurements(config, "bf16-mixed", CUDA)
    assert result["timed"]["batch_size"] == 256
    assert result["largest_batch"] == int((80 * 2**30 - 10**8) / 10**7)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"images": 0}, "images must be at least 1, got 0"),
        ({"devices": 4}, "plan.devices must be a list of numbers of devices, each at least 1, got 4"),
        ({"devices": [1, 0]}, r"each at least 1, got \[1, 0\]"),
        ({"memory": 0}, "plan.memory must be at least 0.01 GiB"),
    ],
)
def test_bad_settings(settings, message):
    with pytest.raises(ValueError, match=message):
        Estimate(**settings)
