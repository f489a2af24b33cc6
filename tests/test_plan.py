import json

import pytest

from conmim_lightning.profiling.estimate import IMAGENET
from conmim_lightning.train import run
from conmim_lightning.weights.checkpoint import read_checkpoint


@pytest.mark.slow
def test_the_command(tiny, composed, run_command, tmp_path):
    """A screen, a file, and the size of the checkpoint that a run then writes."""
    overrides = ["experiment=quickstart", *tiny, "plan.devices=[1,3]", f"paths.run_dir={tmp_path}/plan"]
    status, stdout, stderr = run_command("plan", *overrides)
    assert status == 0, stderr
    assert len(stdout.splitlines()) < 24
    assert "3 devices" in stdout
    result = json.loads((tmp_path / "plan" / "plan.json").read_text())
    assert 0 < result["images"] < IMAGENET
    run(composed("experiment=quickstart", *tiny, f"paths.run_dir={tmp_path}/run", "trainer.max_steps=1"))
    written = (tmp_path / "run" / "checkpoints" / "last.ckpt").stat().st_size
    assert written == pytest.approx(result["checkpoint"]["bytes"], rel=0.25), "a small model beside the run's record"
    assert read_checkpoint(f"{tmp_path}/run")["state_dict"]


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (["plan.stesp=1"], "did you mean steps"),
        (["plan.images=0"], "images must be at least 1, got 0"),
        (["plan.devices=4"], "plan.devices: a list of whole numbers is needed, got 4"),
        (["trainer.accelerator=gpu"], "torch finds no GPU here"),
        (["trainer.accelerator=tpu"], "'tpu' cannot be timed"),
        (["trainer.precision=64-true"], "64-true"),
        (["experiment=quickstart_finetune", "backbone.weights=null"], "plan is for pre-training"),
    ],
)
def test_mistakes_end_with_a_sentence(run_command, overrides, message):
    status, _, stderr = run_command("plan", *overrides)
    assert status == 1
    assert message in stderr
    assert "Traceback" not in stderr
