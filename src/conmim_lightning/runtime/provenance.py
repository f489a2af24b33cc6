"""The record of a run: configuration, command line, versions, commit, machine."""

import json
import platform
import re
import subprocess
import sys
from collections.abc import Mapping
from importlib.metadata import PackageNotFoundError, distribution, version
from pathlib import Path
from typing import Any

from conmim_lightning.config.check import Config
from conmim_lightning.runtime.secrets import mask

_PACKAGES = (
    "conmim-lightning",
    "torch",
    "torchvision",
    "lightning",
    "timm",
    "torchmetrics",
    "hydra-core",
    "omegaconf",
    "numpy",
    "pillow",
    "wandb",
)

_ABSOLUTE = re.compile(r"(?:(?<=[=\[,\s\"'(])|^)~?/[^\s,\]\"')]+")  # a path in a value, an override or a list
_OF_THE_RUN = ("config", "earlier", "id", "name", "group", "job_type", "tags")  # equal in all its processes


def run_record(
    config: Config, identifier: str, checkpoint: Config | None = None, labels: Config | None = None
) -> dict[str, object]:
    """Return everything that identifies a run later, without environment variables and with masked credentials.

    Args:
        config: resolved configuration.
        identifier: identifier of the run.
        checkpoint: checkpoint with which the run continues; "earlier" then lists the processes before this one.
        labels: name, group, kind and tags of the run.
    """
    own = {
        "id": identifier,
        **(labels or {}),
        "command": [Path(sys.argv[0]).name, *sys.argv[1:]],
        "git": git_state(),
        "working_directory_git": _described(Path.cwd()),
        "python": platform.python_version(),
        "machine": f"{platform.system()} {platform.machine()}",
        "packages": {name: _version(name) for name in _PACKAGES},
        "config": config,
        "earlier": _earlier(checkpoint) if checkpoint else [],
    }
    return mask(own)


def _earlier(checkpoint: Config) -> list[object]:
    """Return the processes that trained a checkpoint: what of their records may differ."""
    record = checkpoint.get("run")
    if not isinstance(record, dict):
        return []
    last = {key: value for key, value in record.items() if key not in _OF_THE_RUN}
    return [*record.get("earlier", []), last | {"until_step": checkpoint["global_step"]}]


def git_state() -> str:
    """Return the commit of this package's code, with "-dirty" if files changed; of a release, its version."""
    here = Path(__file__).parents[1]
    if (here.parents[1] / ".git").exists() and (here.parents[1] / "pyproject.toml").exists():
        return _described(here) or "unknown"
    return _installed_commit() or f"release {_version('conmim-lightning')}"


def portable(record: Mapping[str, Any]) -> dict[str, Any]:
    """Return a record for loggers, without loggers and folders that mean nothing on another machine.

    Paths within the run's folder become relative to it. Other absolute paths keep their last names, at most two.
    """
    config = {key: value for key, value in record["config"].items() if key not in ("paths", "logger")}
    run_dir = record["config"].get("paths", {}).get("run_dir")
    others = {key: value for key, value in record.items() if key != "config"}
    return {**_shortened(others, run_dir), "config": _shortened(config, run_dir)}


def shortened_paths(text: str) -> str:
    """Return text, such as an override, whose absolute paths keep their last names: one of up to three, or two."""
    return _ABSOLUTE.sub(lambda match: _last_names(match[0]), text)


def _last_names(path: str) -> str:
    names = [name for name in path.split("/")[1:] if name]
    return "/".join(["...", *names[-(2 if len(names) > 3 else 1) :]])


def _shortened(value: Any, run_dir: str | None) -> Any:
    if isinstance(value, dict):
        return {key: _shortened(item, run_dir) for key, item in value.items()}
    if isinstance(value, list):
        return [_shortened(item, run_dir) for item in value]
    if not isinstance(value, str):
        return value
    if run_dir and f"{value}/".startswith(f"{run_dir}/"):
        return "." + value.removeprefix(run_dir)
    return shortened_paths(value)


def _described(folder: Path) -> str | None:
    """Return the commit of the checkout around a folder, with "-dirty" if files changed; None outside a checkout."""
    try:
        described = subprocess.run(
            ["git", "-C", str(folder), "describe", "--always", "--dirty", "--abbrev=40", "--exclude=*"],
            capture_output=True,
            text=True,
            timeout=10,
            check=True,
        )
    except (OSError, subprocess.SubprocessError):
        return None
    return described.stdout.strip()


def _installed_commit() -> str | None:
    """Return the commit from which pip installed this package; None for a release or a local folder."""
    try:
        text = distribution("conmim-lightning").read_text("direct_url.json")
    except PackageNotFoundError:
        return None
    return json.loads(text).get("vcs_info", {}).get("commit_id") if text else None


def _version(name: str) -> str:
    try:
        return version(name)
    except PackageNotFoundError:
        return "not installed"
