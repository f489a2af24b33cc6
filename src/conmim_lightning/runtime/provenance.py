"""The record of a run: configuration, command line, versions, commit, machine."""

import platform
import subprocess
import sys
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

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


def run_record(config: Config, identifier: str, checkpoint: Config | None = None) -> dict[str, object]:
    """Return everything that identifies a run later, without environment variables and with masked credentials.

    Args:
        config: resolved configuration.
        identifier: identifier of the run.
        checkpoint: checkpoint with which the run continues; "earlier" then lists the processes before this one.
    """
    own = {
        "id": identifier,
        "command": [Path(sys.argv[0]).name, *sys.argv[1:]],
        "git": git_state(),
        "python": platform.python_version(),
        "machine": f"{platform.system()} {platform.machine()}",
        "packages": {name: _version(name) for name in _PACKAGES},
        "config": config,
        "earlier": _earlier(checkpoint) if checkpoint else [],
    }
    return mask(own)


def _earlier(checkpoint: Config) -> list[object]:
    """Return the processes that trained a checkpoint: their records without the configuration."""
    record = checkpoint.get("run")
    if not isinstance(record, dict):
        return []
    last = {key: value for key, value in record.items() if key not in ("config", "earlier", "id")}
    return [*record.get("earlier", []), last | {"until_step": checkpoint["global_step"]}]


def git_state() -> str:
    """Return the commit of this package's checkout, with "-dirty" if files changed; "unknown" outside a checkout."""
    here = Path(__file__).parents[1]
    if not (here.parents[1] / ".git").exists() or not (here.parents[1] / "pyproject.toml").exists():
        return "unknown"  # installed, or inside another project's checkout
    try:
        described = subprocess.run(
            ["git", "-C", str(here), "describe", "--always", "--dirty", "--abbrev=40", "--exclude=*"],
            capture_output=True,
            text=True,
            timeout=10,
            check=True,
        )
    except (OSError, subprocess.SubprocessError):
        return "unknown"
    return described.stdout.strip()


def _version(name: str) -> str:
    try:
        return version(name)
    except PackageNotFoundError:
        return "not installed"
