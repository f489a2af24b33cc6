import shutil

import pytest
import torch
from callback_runs import SHORT, callback_of, folder_overrides, logged

from conmim_lightning.callbacks.online_probe import OnlineProbe
from conmim_lightning.data.sources.folder import FolderSource
from conmim_lightning.train import run


def test_baselines_are_measured_before_the_first_step_and_the_teacher_at_the_end(finished_run):
    trainer, _ = finished_run
    history = callback_of(trainer, OnlineProbe).history
    assert history[0]["step"] == 0
    assert history[-1]["step"] == trainer.global_step == 12
    assert history[0]["val/knn_top1"] == history[0]["val/knn_top1_start"]


def test_an_unlabelled_tree_has_no_probes_but_a_report(damaged, tmp_path, composed, tiny):
    changes = ["callbacks.broken_images.max_fraction=0.1", "trainer.log_every_n_steps=2"]
    run(composed(*folder_overrides(damaged, tiny), *changes))
    assert (tmp_path / "run" / "report.png").stat().st_size > 10_000
    assert not any("val/" in name for row in logged(tmp_path / "run") for name in row)


def test_broken_probe_images_are_reported_and_left_out(scenes_root, tmp_path, composed, tiny):
    root = tmp_path / "images"
    shutil.copytree(scenes_root / "folders", root)
    FolderSource(root / "val").path(0).write_bytes(b"no image")
    with pytest.warns(UserWarning, match="1 query images of the knn probe cannot be read"):
        run(composed(*folder_overrides(root / "train", tiny), f"data.labelled_root={root}"))


def test_probes_and_reports_have_no_effect_on_training(tmp_path, composed, tiny):
    results = []
    without = ["~callbacks.probe", "~callbacks.report", "~callbacks.throughput", "task.log_every_n_steps=7"]
    for changes in (["callbacks.probe.every_n_epochs=1"], without):
        run(composed(*SHORT, *tiny, "backbone.drop_path_rate=0.3", *changes))
        path = tmp_path / "run" / "checkpoints" / "last.ckpt"
        results.append(torch.load(path, weights_only=False)["state_dict"])
        shutil.rmtree(tmp_path / "run")
    assert all(torch.equal(value, results[1][name]) for name, value in results[0].items())


def test_bad_interval():
    with pytest.raises(ValueError, match="every_n_epochs must be at least 1, got 0"):
        OnlineProbe(every_n_epochs=0)
