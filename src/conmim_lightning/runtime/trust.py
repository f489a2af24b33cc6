"""What the record in a checkpoint may build: only classes that this project's own configurations name.

A record is data from a file, which may come from a stranger. ``instantiate`` would call anything that it names.
"""

import re
from collections.abc import Iterator, Sequence
from functools import cache
from pathlib import Path
from typing import Any

from conmim_lightning.config.check import CONF_DIR, Config

_EARLIER = ("lightning.pytorch.loggers.WandbLogger", "lightning.pytorch.loggers.TensorBoardLogger")
_DIRECTIVES = ("_target_", "_partial_")
_WRITERS = ("conmim_lightning.data.synthetic.", "conmim_lightning.data.downloads.")
"""What creates files, which a record may name only to prepare the data."""
_SHOWN = 5


def check_record(config: Config, trust: Sequence[str] = ()) -> None:
    """Raise ValueError unless a recorded configuration can be instantiated without running foreign code.

    Allowed are the targets in ``conf/`` and those of trusted packages. Interpolations and Hydra's other directives are
    rejected: a record is resolved already.

    Args:
        config: configuration of a record.
        trust: names of packages or modules whose classes the record may name, too.
    """
    built = {name: config.get(name) for name in ("task", "data")}
    built |= {f"callbacks.{name}": node for name, node in recorded_reports(config).items()}
    faults = [fault for name, node in built.items() for fault in _faults(node, name, tuple(trust))]
    if faults:
        more = f"\n  and {len(faults) - _SHOWN} more" if len(faults) > _SHOWN else ""
        listed = "".join(f"\n  {fault}" for fault in faults[:_SHOWN])
        raise ValueError(
            f"the record in the checkpoint would run code that is not this project's:{listed}{more}\n"
            "if it is your own, name its package: trust=[my_package]"
        )


def recorded_reports(config: Config) -> dict[str, Any]:
    """Return the callbacks of a record that commands instantiate, by name."""
    callbacks = config.get("callbacks") or {}
    return {name: node for name, node in callbacks.items() if name.endswith("_report")}


@cache
def known_targets() -> frozenset[str]:
    """Return the targets that this project's configuration files name, or named in earlier versions."""
    files = Path(CONF_DIR).rglob("*.yaml")
    names = [name for path in files for name in re.findall(r"_target_:\s*([\w.]+)", path.read_text("utf-8"))]
    return frozenset({*names, *_EARLIER})


def _faults(node: object, name: str, trust: tuple[str, ...]) -> Iterator[str]:
    """Yield what is not allowed in a node and below."""
    if isinstance(node, dict):
        yield from _directive_faults(node, name, trust)
        for key, value in node.items():
            yield from () if key == "_target_" else _faults(value, f"{name}.{key}", trust)
    elif isinstance(node, list | tuple):
        for index, value in enumerate(node):
            yield from _faults(value, f"{name}.{index}", trust)
    elif isinstance(node, str) and "${" in node:
        yield f"{name}: the interpolation {node!r}"


def _directive_faults(node: dict[object, object], name: str, trust: tuple[str, ...]) -> Iterator[str]:
    """Yield a target that is not trusted, and Hydra's other directives."""
    if "_target_" in node and not _is_trusted(node["_target_"], name, trust):
        yield f"{name}._target_: {node['_target_']!r}"
    yield from (f"{name}.{key}: not allowed" for key in node if str(key).startswith("_") and key not in _DIRECTIVES)


def _is_trusted(target: object, name: str, trust: tuple[str, ...]) -> bool:
    if not isinstance(target, str):
        return False
    if target in known_targets():
        return not target.startswith(_WRITERS) or name.rpartition(".")[2] == "prepare"
    return any(target.startswith(f"{package}.") for package in trust)
