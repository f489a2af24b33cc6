"""The callbacks in real runs of the composed project on made data."""

import csv
import math
import shutil
from pathlib import Path

import pytest
import torch
import yaml
from PIL import Image

from conmim_lightning.callbacks.broken_images import BrokenImages, TooManyBrokenError
from conmim_lightning.callbacks.online_probe import OnlineProbe
from conmim_lightning.callbacks.report import Report
from conmim_lightning.data.folder import FolderSource
from conmim_lightning.train import run

SHORT = [
    "experiment=quickstart",
    "schedule.epochs=2",
    "schedule.warmup_epochs=0",
    "trainer.log_every_n_steps=2",
    "task.monitor_every=2",
]


@pytest.fixture(scope="module")
def finished(tmp_path_factory, scenes_root):
    """One short run: its trainer and its folder."""
    from hydra import compose, initialize_config_dir

    from conmim_lightning.config import CONF_DIR
    from conmim_lightning.resolvers import register_resolvers

    register_resolvers()
    folder = tmp_path_factory.mktemp("run")
    from conftest import tiny_overrides

    with initialize_config_dir(CONF_DIR, version_base="1.3"):
        cfg = compose(
            "train", [f"paths.run_dir={folder}", "logger=csv", "trainer=cpu", *SHORT, *tiny_overrides(scenes_root)]
        )
    return run(cfg), folder


def logged(folder: Path) -> list[dict[str, str]]:
    with (folder / "metrics" / "metrics.csv").open() as file:
        return list(csv.DictReader(file))


def test_metrics_of_the_run(finished):
    _, folder = finished
    rows = logged(folder)
    names = {name for row in rows for name, value in row.items() if value}
    assert {
        "train/loss",
        "train/retrieval_top1",
        "train/position_only_share",
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
    waits = [float(row["speed/data_wait"]) for row in rows if row.get("speed/data_wait")]
    assert all(0 <= wait <= 1 for wait in waits)
    assert all(float(row["speed/images_per_second"]) > 0 for row in rows if row.get("speed/images_per_second"))


def test_probe_has_baselines_first_and_the_end_last(finished):
    trainer, _ = finished
    history = next(c for c in trainer.callbacks if isinstance(c, OnlineProbe)).history
    assert history[0]["step"] == 0
    assert history[-1]["step"] == trainer.global_step == 12
    assert history[0]["val/knn_top1"] == history[0]["val/knn_top1_start"]


def test_report_is_a_picture_of_some_size(finished):
    _, folder = finished
    with Image.open(folder / "report.png") as picture:
        assert picture.width >= 1000
        assert len(set(picture.convert("L").tobytes())) > 50


def test_record_is_kept_with_run_and_checkpoint(finished):
    _, folder = finished
    record = yaml.safe_load((folder / "run.yaml").read_text())
    assert record["config"]["task"]["temperature"] == 0.1
    assert torch.__version__.startswith(record["packages"]["torch"])
    assert record["git"]
    kept = torch.load(folder / "checkpoints" / "last.ckpt", weights_only=False)["run"]
    assert kept == record


@pytest.mark.slow
def test_secrets_are_nowhere(tmp_path, composed, tiny, monkeypatch):
    secret = "5ec2e7" * 6 + "abcd"
    monkeypatch.setenv("WANDB_API_KEY", secret)
    monkeypatch.setenv("WANDB_MODE", "offline")
    run(composed(*SHORT, *tiny, "trainer.max_steps=1", "logger=wandb"))
    files = [path for path in tmp_path.rglob("*") if path.is_file()]
    assert any("wandb" in path.parts for path in files)
    assert not [path for path in files if secret.encode() in path.read_bytes()]


def weights(folder: Path) -> dict[str, torch.Tensor]:
    state = torch.load(folder / "run" / "checkpoints" / "last.ckpt", weights_only=False)["state_dict"]
    return {name: value.clone() for name, value in state.items()}


def test_probes_and_reports_have_no_effect_on_training(tmp_path, composed, tiny):
    results = []
    without = ["~callbacks.probe", "~callbacks.report", "~callbacks.throughput", "task.monitor_every=7"]
    for changes in (["callbacks.probe.every_n_epochs=1"], without):
        run(composed(*SHORT, *tiny, "backbone.drop_path_rate=0.3", *changes))
        results.append(weights(tmp_path))
        shutil.rmtree(tmp_path / "run")
    assert all(torch.equal(value, results[1][name]) for name, value in results[0].items())


@pytest.fixture
def damaged(scenes_root: Path, tmp_path: Path) -> Path:
    root = tmp_path / "images"
    shutil.copytree(scenes_root / "folders" / "train", root)
    for path in map(FolderSource(root).path, (5, 6)):
        path.write_bytes(b"not an image")
    return root


def folder_overrides(root: Path, tiny: list[str]) -> list[str]:
    kept = [item for item in tiny if not item.startswith("data.prepare") and item != "data=scenes"]
    return [
        "experiment=quickstart",
        "data=folder",
        f"data.root={root}",
        "schedule.epochs=1",
        "schedule.warmup_epochs=0",
        *kept,
    ]


def test_broken_images_are_listed_and_counted(damaged, tmp_path, composed, tiny, caplog):
    with caplog.at_level("INFO"):
        trainer = run(composed(*folder_overrides(damaged, tiny), "callbacks.broken_images.max_share=0.1"))
    lines = (tmp_path / "run" / "broken_images.tsv").read_text().splitlines()
    assert len(lines) == 2
    names = {FolderSource(damaged).name(index) for index in (5, 6)}
    assert {line.split("\t")[0] for line in lines} == names
    assert all(line.endswith("\tUnidentifiedImageError: cannot identify image file") for line in lines)
    assert "2 broken images were replaced" in caplog.text
    assert trainer.global_step == 6
    assert next(c for c in trainer.callbacks if isinstance(c, BrokenImages)).broken == names


def test_too_many_broken_images_stop_the_run(damaged, composed, tiny):
    with pytest.raises(TooManyBrokenError, match=r"of 48 images cannot be read, more than the allowed share of 1.00%"):
        run(composed(*folder_overrides(damaged, tiny)))


def test_an_unlabelled_tree_gets_a_report_without_probes(damaged, tmp_path, composed, tiny):
    run(
        composed(
            *folder_overrides(damaged, tiny), "callbacks.broken_images.max_share=0.1", "trainer.log_every_n_steps=2"
        )
    )
    assert (tmp_path / "run" / "report.png").stat().st_size > 10_000
    assert not any("val/" in name for row in logged(tmp_path / "run") for name in row)


@pytest.mark.parametrize(
    ("make", "told"),
    [
        (lambda: BrokenImages("x", max_share=1.5), "1.5"),
        (lambda: OnlineProbe(every_n_epochs=0), "got 0"),
        (lambda: Report("x", num_images=0), "got 0"),
    ],
)
def test_bad_arguments(make, told):
    with pytest.raises(ValueError, match=told):
        make()


def test_curves_have_no_gaps(finished):
    trainer, _ = finished
    curves = next(c for c in trainer.callbacks if isinstance(c, Report)).curves
    assert [entry["step"] for entry in curves] == [2, 4, 6, 8, 10, 12]
    assert all(math.isfinite(entry["train/loss"]) for entry in curves)


def test_figures_stand_in_the_row_of_their_step(tmp_path, composed, tiny):
    run(composed(*SHORT, *tiny, "task.monitor_every=1", "trainer.log_every_n_steps=1"))
    each = {row["step"]: row["train/retrieval_top1"] for row in logged(tmp_path / "run") if row["train/loss"]}
    shutil.rmtree(tmp_path / "run")
    run(composed(*SHORT, *tiny, "task.monitor_every=3", "trainer.log_every_n_steps=3"))
    third = {row["step"]: row["train/retrieval_top1"] for row in logged(tmp_path / "run") if row["train/loss"]}
    assert set(third) == {"2", "5", "8", "11"}
    assert all(each[step] == value for step, value in third.items())


def test_broken_probe_images_are_told_and_left_out(scenes_root, tmp_path, composed, tiny):
    root = tmp_path / "images"
    shutil.copytree(scenes_root / "folders", root)
    FolderSource(root / "val").path(0).write_bytes(b"no image")
    with pytest.warns(UserWarning, match="1 query images of the knn probe cannot be read"):
        run(composed(*folder_overrides(root / "train", tiny), f"data.labelled_root={root}"))


def test_throughput_under_accumulation_counts_every_image(tmp_path, composed, tiny):
    trainer = run(composed(*SHORT, *tiny, "schedule.accumulate=3", "trainer.log_every_n_steps=1"))
    speeds = [row["speed/images_per_second"] for row in logged(tmp_path / "run") if row["speed/images_per_second"]]
    assert len(speeds) == trainer.global_step == 4
