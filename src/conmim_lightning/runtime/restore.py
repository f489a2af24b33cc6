"""Restoring tasks from checkpoints, as recorded in them."""

from collections.abc import Sequence
from typing import Any

from hydra.utils import instantiate

from conmim_lightning.config.check import Config
from conmim_lightning.config.signatures import allowed
from conmim_lightning.runtime.trust import check_record
from conmim_lightning.weights.checkpoint import Checkpoint, read_checkpoint

_NO_ARCHITECTURE = {"weights", "branch", "allow_mismatch"}  # settings of the backbone


def restored_task(path: str, inference: Config | None = None, trust: Sequence[str] = ()) -> tuple[Any, Checkpoint]:
    """Return the task of a checkpoint, built from its recorded configuration, with its weights; and the checkpoint.

    Args:
        path: checkpoint, or folder of its run.
        inference: settings to change of a segmenter's inference, or of a detector.
        trust: packages whose classes the record may name, besides this project's.

    Raises:
        ValueError: the file is not a checkpoint of this project, has no record of its run, or its record would run
            foreign code.
    """
    checkpoint = read_checkpoint(path)
    record = checkpoint.get("run")
    config = record.get("config") if isinstance(record, dict) else None
    if not isinstance(config, dict) or not isinstance(config.get("task"), dict):
        raise ValueError(f"{path!r} has no record of its run, so its model is unknown")
    check_record(config, trust)
    task = instantiate(_with_inference(without_weights(config["task"]), inference or {}))
    task.on_load_checkpoint(checkpoint)
    task.load_state_dict(checkpoint["state_dict"])
    return task, checkpoint


def without_weights(task: Config) -> Config:
    """Return a task's configuration with a randomly initialised backbone, whose weights a checkpoint will replace."""
    model = task["model"]
    if "backbone" in model:
        return {**task, "model": {**model, "backbone": {**model["backbone"], "weights": None}}}
    return {**task, "model": {**model, "weights": None}}


def unused_settings(checkpoint: Checkpoint, config: Config) -> str:
    """Return a warning of settings of the optimizer that a resumed run does not use; empty if there are none.

    The state of the optimizer in a checkpoint includes all of them; only the learning rate follows the configuration.
    """
    recorded = checkpoint.get("run", {}).get("config", {}).get("optimizer") or {}
    own = config["optimizer"]
    differing = [
        f"optimizer.{key}={own[key]} (the checkpoint's {recorded[key]} is used)"
        for key in own
        if key in recorded and key not in ("lr", "fused", "foreach", "capturable") and own[key] != recorded[key]
    ]
    return f"a resumed run does not use {', '.join(differing)}" if differing else ""


def check_backbone(checkpoint: Checkpoint, config: Config) -> None:
    """Check settings of the backbone that tensor shapes do not reveal, such as the number of heads.

    Raises:
        ValueError: a setting, other than a dropout rate, differs from that of the checkpoint's run.
    """
    recorded = checkpoint.get("run", {}).get("config", {}).get("backbone")
    if recorded is None:
        return
    own = config["backbone"]
    differing = [
        f"backbone.{key} {recorded.get(key)!r} instead of {own.get(key)!r}"
        for key in sorted({*recorded, *own} - _NO_ARCHITECTURE)
        if not key.endswith("_rate") and recorded.get(key) != own.get(key)
    ]
    if differing:
        raise ValueError(f"the checkpoint is of another architecture: {', '.join(differing)}")


def _with_inference(task: Config, inference: Config) -> Config:
    """Return a task's configuration with changed inference settings; raise ValueError for an unknown setting."""
    target = "inference" if "inference" in task else "model"
    for key in inference:
        if key not in task[target]:
            name = task["_target_"].rsplit(".", 1)[-1]
            raise ValueError(f"inference.{key} does not exist in a run of {name}; {allowed(key, task[target])}")
    return {**task, target: {**task[target], **inference}} if inference else task
