"""Composition of configurations and their check before anything slow starts."""

import re
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from conmim_lightning.signatures import signature_faults, targets

_PACKAGED = Path(__file__).parent / "conf"
CONF_DIR = str((_PACKAGED if _PACKAGED.is_dir() else Path(__file__).parents[2] / "conf").resolve())
"""Folder of the configuration groups."""

_KNOWN = (
    "seed",
    "resume",
    "stages",
    "data",
    "masking",
    "perturbation",
    "backbone",
    "task",
    "optimizer",
    "schedule",
    "trainer",
    "callbacks",
    "logger",
    "paths",
    "benchmark",
    "plan",
    "inspect",
    "checkpoint",
    "output",
    "branch",
    "head",
    "images",
    "predictions",
    "all_scores",
    "pictures",
    "inference",
)
_PLAIN_GROUPS = {
    "schedule": (
        "epochs",
        "warmup_epochs",
        "min_lr",
        "momentum_start",
        "momentum_end",
        "clip_norm",
        "accumulate",
        "lr_scaling",
        "reference_batch",
        "steps",
        "warmup_steps",
        "shape",
    ),
    "paths": ("root_dir", "data_dir", "run_dir"),
    "plan": ("images", "devices", "memory", "warmup", "steps"),
    "benchmark": (
        "stages",
        "batch_size",
        "warmup",
        "steps",
        "precisions",
        "ways",
        "memory",
        "against",
        "photos",
        "images",
    ),
}
"""Keys of the groups that name no target and so have no signature to be checked against."""

_TARGET_GROUPS = ("data", "masking", "perturbation", "backbone", "task", "optimizer", "trainer")


def _is_number(value: Any, least: float, *, whole: bool = False) -> bool:
    return isinstance(value, int if whole else int | float) and not isinstance(value, bool) and value >= least


def _whole(least: int) -> tuple[Callable[[Any], bool], str]:
    return lambda value: _is_number(value, least, whole=True), f"a whole number of at least {least}"


def _are_counts(value: Any) -> bool:
    return isinstance(value, list) and bool(value) and all(_is_number(one, 1, whole=True) for one in value)


_MEMORY = (lambda value: value is None or _is_number(value, 0.01), "GiB of at least .01, or null")
_RANGES: dict[tuple[str, str], tuple[Callable[[Any], bool], str]] = {
    ("schedule", "accumulate"): _whole(1),
    ("schedule", "clip_norm"): (lambda value: value is None or _is_number(value, 1e-12), "above 0, or null"),
    ("plan", "images"): (lambda value: value is None or _is_number(value, 1, whole=True), "at least 1, or null"),
    ("plan", "memory"): _MEMORY,
    ("plan", "devices"): (_are_counts, "a list of numbers of devices, each at least 1"),
    ("benchmark", "batch_size"): _whole(2),
    ("benchmark", "memory"): _MEMORY,
    **{("paths", key): (lambda value: isinstance(value, str), "a path") for key in _PLAIN_GROUPS["paths"]},
    **{(group, "steps"): _whole(1) for group in ("plan", "benchmark")},
    **{(group, "warmup"): _whole(0) for group in ("plan", "benchmark")},
}


class ConfigError(ValueError):
    """Faults of a configuration, all of them, a line each."""


def check(cfg: DictConfig) -> dict[str, Any]:
    """Check a composed configuration against the signatures of what it names.

    Returns:
        The configuration as plain dictionaries, with every interpolation resolved.

    Raises:
        ConfigError: an unknown top-level group, a value that is missing ("???") or does not resolve, a target that
            cannot be imported, an argument that the target does not take or one that it lacks; all faults at once.
    """
    faults = [f"{key}: unknown; top-level keys are {', '.join(_KNOWN)}" for key in map(str, cfg) if key not in _KNOWN]
    for group, keys in _PLAIN_GROUPS.items():
        unknown = [key for key in cfg.get(group) or () if key not in keys]
        faults += [f"{group}.{key}: unknown; {group} has {', '.join(keys)}" for key in unknown]
    faults += [*_once(_unresolved(cfg, "")), *_out_of_range(cfg), *_hidden_gradients(cfg)]
    written = OmegaConf.to_container(cfg, resolve=False)  # a reference to another group stays one: checked there
    assert isinstance(written, dict)
    faults += _untargeted(written)
    faults += [f"{name}.{key}: {fault}" for name, node in targets(written, "") for key, fault in signature_faults(node)]
    if faults:
        listed = "\n".join(f"  {fault}" for fault in faults)
        raise ConfigError(f"{len(faults)} fault(s) in the configuration:\n{listed}")
    return OmegaConf.to_container(cfg, resolve=True)  # type: ignore[return-value]


def _untargeted(written: dict[Any, Any]) -> Iterator[str]:
    """Groups, callbacks and loggers that do not say what they are."""
    for group in _TARGET_GROUPS:
        changes_only = group == "data" and "task" not in written  # evaluate: to be merged with a run's own
        if group in written and not changes_only and not _names_target(written[group]):
            yield f"{group}._target_: missing; choose one of the group, {group}=..."
    for group in ("callbacks", "logger"):
        for name, node in (written.get(group) or {}).items():
            if not _names_target(node):
                yield f"{group}.{name}: names no _target_; to leave one out write ~{group}.{name}"


def _names_target(node: Any) -> bool:
    return isinstance(node, str) or (isinstance(node, dict) and "_target_" in node)  # a text is a reference


def _out_of_range(cfg: DictConfig) -> Iterator[str]:
    """Numbers of groups that name no target, which nobody else would check early."""
    for (group, key), (allowed, told) in _RANGES.items():
        if OmegaConf.is_config(cfg.get(group)) and key in cfg[group] and not OmegaConf.is_missing(cfg[group], key):
            value = OmegaConf.to_container(cfg[group]).get(key)  # type: ignore[union-attr]
            if not (isinstance(value, str) and "${" in value) and not allowed(value):
                yield f"{group}.{key}: must be {told}, got {value!r}"


def _hidden_gradients(cfg: DictConfig) -> Iterator[str]:
    """A fused step under float16's scaler, whose gradients nobody could clip or look at."""
    values = [OmegaConf.select(cfg, name, throw_on_resolution_failure=False) for name in _SCALED]
    if values == ["16-mixed", True]:
        yield "trainer.precision: 16-mixed needs optimizer.fused=false: a fused step hides the gradients"


_SCALED = ("trainer.precision", "optimizer.fused")


def _unresolved(node: Any, name: str) -> Iterator[str]:
    """Values that are missing or whose interpolation fails."""
    keys = range(len(node)) if OmegaConf.is_list(node) else list(node)
    for key in keys:
        where = f"{name}.{key}" if name else str(key)
        if OmegaConf.is_missing(node, key):
            yield f"{where}: missing; give it a value, such as {where}=..."
            continue
        try:
            value = node[key]
        except (OmegaConfBaseException, ValueError) as error:
            yield f"{where}: {_told(error, node._get_root())}"
            continue
        if OmegaConf.is_config(value):
            yield from _unresolved(value, where)


def _told(error: Exception, cfg: Any) -> str:
    """The first line without OmegaConf's own words; where another group lacks what is asked of it, what that means."""
    first = str(error).splitlines()[0].removeprefix("ValueError raised while resolving interpolation: ")
    missing = re.fullmatch(r"Interpolation key '((\w+)[^']*)' not found", first)
    if missing is None or missing[2] not in _TARGET_GROUPS:
        return first
    lacking = f"{missing[1]}, which the chosen {missing[2]} lacks" if missing[2] in cfg else f"a {missing[2]}"
    return f"needs {lacking}; choose groups that are made for one another"


def _once(faults: Iterable[str]) -> list[str]:
    """Each fault at the first place that has it."""
    seen: set[str] = set()
    return [fault for fault in faults if (what := fault.partition(": ")[2]) not in seen and not seen.add(what)]
