"""Pictures, tables and labels of whole runs, read back from the records of offline loggers."""

from pathlib import Path

import pytest
import yaml
from callback_runs import SHORT, folder_overrides
from conftest import tiny_dense, tiny_labelled
from downstream_runs import configure, export
from wandb.sdk.launch.sweeps.utils import create_sweep_command, create_sweep_command_args
from wandb_record import read_record

from conmim_lightning.config.check import CONF_DIR
from conmim_lightning.loggers.wandb import RunWandbLogger
from conmim_lightning.train import run

WANDB = ["logger=wandb", "logger.wandb.offline=true"]
pytestmark = pytest.mark.slow


def test_a_pretraining_logs_pictures_at_every_probe_and_is_continued(tmp_path, composed, tiny):
    changes = [*SHORT, *tiny, *WANDB, "callbacks.probe.every_n_epochs=1", "callbacks.checkpoint.every_n_epochs=1"]
    run(composed(*changes, "trainer.max_epochs=1"))
    first = read_record(tmp_path / "run" / "wandb")
    run(composed(*changes, "resume=auto"))
    both = read_record(tmp_path / "run" / "wandb")
    assert both.run.run_id == first.run.run_id == yaml.safe_load((tmp_path / "run" / "run.yaml").read_text())["id"]
    assert [step for step, _ in both.column("pictures/similarity")] == [0, 5, 11]
    assert [step for step, _ in both.column("val/knn_top1")] == [0, 5, 11]
    assert [value for _, value in both.column("val/knn_top1_start")] == [both.column("val/knn_top1")[0][1]] * 3
    assert both.run.job_type == "pretrain"
    assert str(tmp_path) not in str(both.config)
    assert both.config["config"]["loss"]["temperature"] == 0.1


def test_a_run_without_probe_data_logs_pictures_too(tmp_path, composed, tiny, scenes_root):
    images = scenes_root / "folders" / "train"
    changes = ["callbacks.probe.every_n_epochs=2", "schedule.epochs=5", "schedule.warmup_epochs=0", *WANDB]
    run(composed(*[item for item in folder_overrides(images, tiny) if "epochs" not in item], *changes))
    assert [step for step, _ in read_record(tmp_path / "run").column("pictures/similarity")] == [0, 11, 23, 29]


def test_pictures_can_be_turned_off(tmp_path, composed, tiny):
    run(composed(*SHORT, *tiny, *WANDB, "logger.wandb.log_media=false", "trainer.max_epochs=1"))
    record = read_record(tmp_path / "run" / "wandb")
    assert record.column("train/loss")
    assert not record.column("pictures/similarity")


def test_a_segmentation_logs_class_maps(tmp_path, scenes_root):
    small = tiny_dense(scenes_root, "segmentation")
    length = ["schedule.steps=4", "schedule.warmup_steps=1", "trainer.val_check_interval=2", "data.eval_limit=6"]
    run(configure("train", tmp_path, "experiment=quickstart_segmentation", *small, *length, *WANDB))
    record = read_record(tmp_path / "wandb")
    shown = record.column("val/predictions")
    assert [step for step, _ in shown] == [1, 3]
    assert shown[0][1]["count"] == 4
    assert set(shown[0][1]["all_masks"][0]) == {"prediction", "annotation"}
    assert record.column("test/predictions")
    assert record.column("test/per_class")
    assert record.run.job_type == "segmentation"


def test_a_detection_logs_boxes(tmp_path, scenes_root):
    small = [*tiny_dense(scenes_root, "coco"), "data.eval_limit=6", "data.subset_count=16"]
    run(configure("train", tmp_path, "experiment=quickstart_detection", *small, "schedule.epochs=1",
                  "schedule.warmup_epochs=0.5",
                  "callbacks.detection_report.min_score=0", *WANDB))  # fmt: skip
    record = read_record(tmp_path / "wandb")
    boxes = record.column("val/predictions")[0][1]["all_boxes"]
    assert any("annotations" in each for each in boxes)
    assert record.column("test/detections")
    assert record.column("test/per_class")


def test_a_classification_logs_its_confusion_at_each_validation(tmp_path, scenes_root):
    small = [
        *tiny_labelled(scenes_root),
        "schedule.epochs=2",
        "schedule.warmup_epochs=0",
        "trainer.check_val_every_n_epoch=1",
    ]
    run(configure("train", tmp_path, "experiment=quickstart_finetune", *small, *WANDB))
    record = read_record(tmp_path / "wandb")
    assert len(record.column("val/confusion")) == 2
    assert len(record.column("test/confusion")) == len(record.column("test/per_class")) == 1


def test_a_sweep_of_wandb(tmp_path, run_command, tiny, monkeypatch):
    """The command that wandb's agent builds from our file, with its environment."""
    sweep = yaml.safe_load((Path(CONF_DIR) / "wandb" / "temperature.yaml").read_text())
    chosen = {"loss.temperature": {"value": 0.05}, "seed": {"value": 1}}
    command = create_sweep_command(sweep["command"])
    words = []
    for word in command:
        words += (
            create_sweep_command_args({"args": chosen})["args_no_hyphens"] if word == "${args_no_hyphens}" else [word]
        )
    assert words[2:4] == ["-m", "conmim_lightning.train"], "after the environment and Python, which the agent fills in"
    assert words[4:] == ["experiment=quickstart", "loss.temperature=0.05", "seed=1"]
    monkeypatch.setenv("WANDB_RUN_ID", "agent1")
    short = ["schedule.epochs=1", "schedule.warmup_epochs=0", "~callbacks.probe", "~callbacks.report"]
    done = run_command("train", *words[4:], *tiny, *short, *WANDB, "paths.run_dir=runs/one")
    assert done.status == 0, done.stderr
    record = read_record(tmp_path / "runs" / "one" / "wandb")
    assert record.run.run_id == "agent1"
    assert record.config["config"]["loss"]["temperature"] == 0.05
    assert yaml.safe_load((tmp_path / "runs" / "one" / "run.yaml").read_text())["id"] == "agent1"


def test_tensorboard_has_the_same_pictures(tmp_path, composed, tiny):
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    run(composed(*SHORT, *tiny, "logger=tensorboard", "callbacks.probe.every_n_epochs=1"))
    record = EventAccumulator(str(tmp_path / "run" / "tensorboard")).Reload()
    assert [image.step for image in record.Images("pictures/similarity/0")] == [0, 5, 11]
    assert len(record.Scalars("val/knn_top1_start")) == 3


def test_an_export_is_an_artifact_of_its_run(tmp_path, composed, tiny, monkeypatch):
    monkeypatch.setenv("NETRC", str(tmp_path / "none"))
    short = ["schedule.epochs=1", "schedule.warmup_epochs=0", "~callbacks.probe", "~callbacks.report"]
    run(composed("experiment=quickstart", *tiny, *short, *WANDB))
    options = [f"checkpoint={tmp_path}/run", f"output={tmp_path}/my vit"]
    export(configure("export", tmp_path, *options, "artifact=true"))
    record = read_record(tmp_path / "run" / "wandb")
    assert [(each.name, each.type, each.run_id) for each in record.artifacts] == [
        ("my-vit", "model", record.run.run_id)
    ]


def test_an_artifact_needs_a_run_of_wandb(tmp_path, dense_pretrained):
    with pytest.raises(ValueError, match="artifact=true needs a run with logger=wandb"):
        export(configure("export", tmp_path, f"checkpoint={dense_pretrained}", f"output={tmp_path}/x", "artifact=true"))
    assert not (tmp_path / "x").exists()


def test_checkpoints_are_artifacts_on_request(tmp_path, finished_run):
    """A logger whose run is offline stands for one with a key, which Lightning asks for."""
    import wandb

    trainer, folder = finished_run
    experiment = wandb.init(dir=str(tmp_path), mode="offline", project="p", id="1a")
    logger = RunWandbLogger(save_dir=str(tmp_path), project="p", id="1a", log_model=True, experiment=experiment)
    logger.after_save_checkpoint(trainer.checkpoint_callback)
    logger.finalize("success")
    logger.close()
    record = read_record(tmp_path)
    assert {each.type for each in record.artifacts} == {"model"}
    saved = {path.resolve() for path in (folder / "checkpoints").glob("*.ckpt")}
    assert {Path(entry.local_path).stat().st_size for each in record.artifacts for entry in each.manifest.contents} <= {
        path.stat().st_size for path in saved
    }
