import time

import pytest
from callback_runs import SHORT, logged

from conmim_lightning.callbacks.throughput import BatchTimer
from conmim_lightning.train import run


def test_throughput_is_logged(finished_run):
    _, folder = finished_run
    rows = [row for row in logged(folder) if row.get("speed/data_wait")]
    assert rows
    assert all(0 <= float(row["speed/data_wait"]) <= 1 for row in rows)
    assert all(float(row["speed/images_per_second"]) > 0 for row in rows)


def test_every_image_counts_under_accumulation(tmp_path, composed, tiny):
    trainer = run(composed(*SHORT, *tiny, "schedule.accumulate_grad_batches=3", "trainer.log_every_n_steps=1"))
    speeds = [row["speed/images_per_second"] for row in logged(tmp_path / "run") if row["speed/images_per_second"]]
    assert len(speeds) == trainer.global_step == 4


def test_groups_of_batches_are_timed_after_the_warmup():
    data = type("Data", (), {"loaded_at": 0.0})()
    device = type("Strategy", (), {"root_device": type("Device", (), {"type": "cpu"})})
    trainer = type("Trainer", (), {"datamodule": data, "strategy": device})
    timer = BatchTimer(warmup=1, group=2)
    for _ in range(6):
        time.sleep(0.01)
        data.loaded_at = time.perf_counter()
        timer.on_train_batch_start(trainer, None, None, 0)
        timer.on_train_batch_end(trainer, None, None, None, 0)
    assert len(timer.seconds) == 2, "of five batches after the warm-up, the last group is not complete"
    assert all(wait == pytest.approx(total, rel=0.2) for wait, total in zip(timer.waits, timer.seconds, strict=True))
