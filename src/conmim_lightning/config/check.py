"""Check of a composed configuration, before anything slow starts."""

import re
from collections.abc import Iterable, Iterator
from functools import cache
from pathlib import Path
from typing import Any

from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from conmim_lightning.config.signatures import allowed, signature_faults, targets
from conmim_lightning.config.values import value_faults

_PACKAGED = Path(__file__).parents[1] / "conf"
CONF_DIR = str((_PACKAGED if _PACKAGED.is_dir() else Path(__file__).parents[3] / "conf").resolve())
"""Folder of the configuration groups."""

_GROUPS = ("data", "masking", "perturbation", "loss", "backbone", "task", "optimizer", "schedule", "trainer")
_SETTINGS = ("masking", "perturbation", "loss", "schedule")  # groups whose constructors only check numbers
_COLLECTIONS = ("callbacks", "logger")
_WITHOUT_DATA = ("plan", "benchmark", "embed")  # commands that may have no collection
_DURATION = re.compile(r"\d+:\d\d:\d\d:\d\d")
_RESOLVING = "raised while resolving interpolation"
_PATHS = ("root_dir", "data_dir", "run_dir")
_NOT_KEYS = {"experiment", "sweep", "local", "debug", "hydra"}  # groups whose files set other keys

Config = dict[str, Any]
"""A checked configuration, resolved to dictionaries."""


class ConfigError(ValueError):
    """All faults of a configuration, one per line."""


def check(cfg: DictConfig, command: str | None = "train") -> Config:
    """Check a composed configuration against the signatures of its targets.

    Args:
        cfg: composed configuration.
        command: name of the primary configuration, which defines the allowed top-level keys; None allows any.

    Returns:
        The configuration as dictionaries, with every interpolation resolved.

    Raises:
        ConfigError: an unknown top-level key, a value that is missing ("???") or does not resolve, a target that cannot
            be imported, an argument that the target does not accept or that it needs, a setting that is out of range;
            all faults at once.
    """
    known = _top_level_keys(command) if command else list(map(str, cfg))
    faults = [f"{key}: unknown; {allowed(key, known)}" for key in map(str, cfg) if key not in known]
    faults += [*_distinct(_unresolved(cfg, "")), *_path_faults(cfg), *_combination_faults(cfg)]
    written = OmegaConf.to_container(cfg, resolve=False)  # an interpolated group is checked where it is defined
    assert isinstance(written, dict)
    faults += _without_target(written)
    misfits = [
        (name, f"{name}.{key}: {fault}") for name, node in targets(written, "") for key, fault in signature_faults(node)
    ]
    unfit = list(value_faults(cfg, written, without_data=command in _WITHOUT_DATA).values())
    if unfit:  # what they make fail is no fault of its own
        faults = [fault for fault in faults if _RESOLVING not in fault]
    misfits += unfit
    faults += list(dict.fromkeys(fault for _, fault in misfits))
    faults += _setting_faults(cfg, {name.split(".")[0] for name, _ in misfits})
    if faults:
        lines = "\n".join(f"  {fault}" for fault in faults)
        raise ConfigError(f"{len(faults)} fault(s) in the configuration:\n{lines}")
    return OmegaConf.to_container(cfg, resolve=True)  # type: ignore[return-value]


@cache
def _top_level_keys(name: str) -> list[str]:
    """Return the keys of a primary configuration: its own, and the groups in its defaults list."""
    content = OmegaConf.load(Path(CONF_DIR, f"{name}.yaml"))
    assert isinstance(content, DictConfig)
    keys = [str(key) for key in content if key != "defaults"]
    for entry in content.get("defaults", ()):
        if isinstance(entry, str):
            keys += [] if entry == "_self_" else _top_level_keys(entry)
        else:
            keys.append(str(next(iter(entry))).split("/")[0].split(" ")[-1])
    return [key for key in dict.fromkeys(keys) if key not in _NOT_KEYS]


def _without_target(written: dict[Any, Any]) -> Iterator[str]:
    """Yield a fault for each group, callback or logger without a target."""
    for group in _GROUPS:
        is_partial = group == "data" and "task" not in written  # evaluate merges them with the data of a run
        if group in written and not is_partial and not _has_target(written[group]):
            yield f"{group}._target_: missing; choose an option of the group, {group}=..."
    for group in _COLLECTIONS:
        for name, node in (written.get(group) or {}).items():
            if not _has_target(node):
                yield f"{group}.{name}: has no _target_; to remove it, write ~{group}.{name}"


def _has_target(node: Any) -> bool:
    return isinstance(node, str) or (isinstance(node, dict) and "_target_" in node)  # a string is an interpolation


def _setting_faults(cfg: DictConfig, misfits: set[str]) -> Iterator[str]:
    """Yield a fault for each value that the constructor of a group rejects."""
    from hydra.utils import instantiate

    for group in _SETTINGS:
        if group not in cfg or group in misfits:
            continue
        try:
            node = OmegaConf.to_container(cfg[group], resolve=True, throw_on_missing=True)
        except (OmegaConfBaseException, ValueError):
            continue  # already reported as unresolved
        if not isinstance(node, dict) or "_target_" not in node:
            continue
        try:
            instantiate(node)
        except Exception as error:
            text = str(error.__cause__ or error)
            yield text if text.startswith(f"{group}.") else f"{group}: {text}"


def _path_faults(cfg: DictConfig) -> Iterator[str]:
    """Yield a fault for each unknown path and each value that is not a path."""
    for key in cfg.get("paths") or ():
        if key not in _PATHS:
            yield f"paths.{key}: unknown; {allowed(key, _PATHS)}"
            continue
        unset = OmegaConf.is_missing(cfg.paths, key) or OmegaConf.is_interpolation(cfg.paths, key)
        if not unset and not isinstance(cfg.paths[key], str):
            yield f"paths.{key}: must be a path, got {cfg.paths[key]!r}"


def _combination_faults(cfg: DictConfig) -> Iterator[str]:
    """Yield a fault for values that contradict each other."""

    def value(name: str) -> Any:
        return OmegaConf.select(cfg, name, throw_on_resolution_failure=False)

    if value("trainer.precision") == "16-mixed" and value("optimizer.fused") is True:
        yield "trainer.precision: 16-mixed needs optimizer.fused=false: a fused step hides the gradients"
    smallest, largest = value("schedule.min_lr"), value("optimizer.lr")
    if _are_numbers(smallest, largest) and smallest > largest > 0:
        yield f"schedule.min_lr: {smallest} is above optimizer.lr, {largest}; the learning rate would rise to it"
    jittered, channels = value("perturbation.per_channel"), value("data.decoder.channels")
    if _are_numbers(jittered, channels) and jittered not in (0, channels):
        yield (
            f"perturbation.per_channel: {jittered} channels cannot have a jitter of their own, as the images have "
            f"{channels} (data.decoder.channels); 0 turns it off"
        )
    longest = value("trainer.max_time")
    if isinstance(longest, str) and not _DURATION.fullmatch(longest):
        yield f"trainer.max_time: days, hours, minutes and seconds are needed, DD:HH:MM:SS, got {longest!r}"


def _are_numbers(*values: Any) -> bool:
    return all(isinstance(value, int | float) for value in values)


def _unresolved(node: Any, name: str) -> Iterator[str]:
    """Yield a fault for each value that is missing or whose interpolation fails."""
    for key in range(len(node)) if OmegaConf.is_list(node) else list(node):
        where = f"{name}.{key}" if name else str(key)
        if OmegaConf.is_missing(node, key):
            yield f"{where}: missing; give it a value, such as {where}=..."
            continue
        try:
            value = node[key]
        except (OmegaConfBaseException, ValueError) as error:
            yield f"{where}: {_explain(error, node._get_root())}"
            continue
        if OmegaConf.is_config(value):
            yield from _unresolved(value, where)


def _explain(error: Exception, cfg: Any) -> str:
    """Return the first line without OmegaConf's prefix; explain an interpolation of a key that a group lacks."""
    first = str(error).splitlines()[0].removeprefix("ValueError raised while resolving interpolation: ")
    missing = re.fullmatch(r"Interpolation key '((\w+)[^']*)' not found", first)
    if missing is None or missing[2] not in _GROUPS:
        return first
    lacking = f"{missing[1]}, which the chosen {missing[2]} lacks" if missing[2] in cfg else f"a {missing[2]}"
    return f"needs {lacking}; choose groups that fit together"


def _distinct(faults: Iterable[str]) -> list[str]:
    """Return the faults without repetitions."""
    seen: set[str] = set()
    return [fault for fault in faults if (text := fault.partition(": ")[2]) not in seen and not seen.add(text)]
