"""Name, group, kind and tags of a run, for loggers and reports."""

import re
import sys
from pathlib import Path
from typing import NamedTuple

from hydra.core.hydra_config import HydraConfig
from hydra.types import RunMode

from conmim_lightning.config.check import Config
from conmim_lightning.runtime.provenance import shortened_paths

_TAGGED = ("experiment", "data", "backbone", "sweep")  # groups whose chosen options are tags


class RunLabels(NamedTuple):
    """Labels of a run.

    Attributes:
        name: experiment and folder.
        group: sweep, or experiment of a run that belongs to no sweep.
        job_type: kind of the task, such as "pretrain" or "segmentation".
        tags: chosen options of the groups experiment, data, backbone and sweep.
    """

    name: str
    group: str
    job_type: str
    tags: list[str]


def run_labels(config: Config) -> RunLabels:
    """Return the labels of a run, from the options that were chosen on the command line."""
    choices = dict(HydraConfig.get().runtime.choices) if HydraConfig.initialized() else {}
    job_type = re.sub("Task$", "", config["task"]["_target_"].rpartition(".")[2]).lower()
    experiment = str(choices.get("experiment") or job_type)
    folder = Path(config["paths"]["run_dir"])
    name, group = f"{experiment} {folder.name}", experiment
    if HydraConfig.initialized() and HydraConfig.get().mode == RunMode.MULTIRUN:
        group = f"{experiment} {Path(HydraConfig.get().sweep.dir).name}"
        name = f"{experiment} {_difference() or folder.name}"
    tags = dict.fromkeys(str(choices[key]) for key in _TAGGED if choices.get(key))
    return RunLabels(name, group, job_type, list(tags))


def _difference() -> str:
    """Return the overrides of this run of a sweep that other runs of the sweep have with other values."""
    config = HydraConfig.get()
    swept = {text.partition("=")[0].lstrip("+") for text in config.overrides.task if _is_swept(text)}
    swept |= set(config.sweeper.get("params") or {})
    own = [text for text in config.overrides.task if text.partition("=")[0].lstrip("+") in swept]
    return shortened_paths(" ".join(own))


def _is_swept(override: str) -> bool:
    """Return whether a sweep's command line gives several values of an override's key."""
    key = override.partition("=")[0]
    given = [word.partition("=")[2] for word in sys.argv[1:] if word.partition("=")[0] == key]
    return any(re.search(r"^(?![\[{'\"]).*,|^(choice|range|interval|glob)\(", value) for value in given)
