"""Metrics of real runs on synthetic data."""

import shutil

from callback_runs import SHORT, logged

from conmim_lightning.train import run


def test_metrics_of_the_run(finished_run):
    _, folder = finished_run
    names = {name for row in logged(folder) for name, value in row.items() if value}
    assert {
        "train/loss",
        "train/retrieval_top1",
        "train/position_only_fraction",
        "optim/lr",
        "optim/grad_norm",
        "speed/images_per_second",
        "speed/data_wait",
        "val/knn_top1",
        "val/knn_top5",
        "val/dense_auroc_object",
        "val/dense_auroc_border",
        "val/dense_auroc_class",
        "val/knn_top1_pixels",
        "val/dense_auroc_object_start",
    } <= names


def test_metrics_are_in_the_row_of_their_step(tmp_path, composed, tiny):
    run(composed(*SHORT, *tiny, "task.log_every_n_steps=1", "trainer.log_every_n_steps=1"))
    every = {row["step"]: row["train/retrieval_top1"] for row in logged(tmp_path / "run") if row["train/loss"]}
    shutil.rmtree(tmp_path / "run")
    run(composed(*SHORT, *tiny, "task.log_every_n_steps=3", "trainer.log_every_n_steps=3"))
    third = {row["step"]: row["train/retrieval_top1"] for row in logged(tmp_path / "run") if row["train/loss"]}
    assert set(third) == {"0", "2", "5", "8", "11"}, "with the first step"
    assert all(every[step] == value for step, value in third.items())
