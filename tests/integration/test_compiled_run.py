"""``task.compile=true`` in a whole run, with accumulation, checkpoint and resuming."""

import shutil

import pytest
import torch
from pretraining import QUICK_TEACHER, same_training
from torch._dynamo.utils import counters

from conmim_lightning.train import run
from conmim_lightning.weights.checkpoint import read_checkpoint


@pytest.mark.slow
@pytest.mark.skipif(not shutil.which("g++"), reason="torch.compile needs g++ on a CPU")
def test_a_compiled_run_equals_an_eager_one_and_resumes_without_compilation(composed, tiny, tmp_path):
    torch.compiler.reset()
    counters.clear()
    states = {}
    common = [
        "experiment=quickstart",
        *tiny,
        "schedule.epochs=2",
        "schedule.warmup_epochs=0",
        "schedule.accumulate_grad_batches=2",
    ]
    common += ["optimizer=sgd", "optimizer.lr=0.1", *QUICK_TEACHER]  # AdamW turns rounding into steps
    common += ["trainer.precision=32-true"]
    for compiled in (True, False):
        own = [f"task.compile={compiled}", f"paths.run_dir={tmp_path}/{compiled}", "trainer.max_steps=3"]
        run(composed(*common, *own))
        states[compiled] = read_checkpoint(f"{tmp_path}/{compiled}")["state_dict"]
    same_training(states[True], states[False])
    assert (tmp_path / "True" / "report.png").is_file()
    assert counters["stats"]["unique_graphs"] == 2, "student and teacher; none for the report after training"
    resumed = run(composed(*common, f"paths.run_dir={tmp_path}/on", f"resume={tmp_path}/True/checkpoints/last.ckpt"))
    assert resumed.global_step == 6
