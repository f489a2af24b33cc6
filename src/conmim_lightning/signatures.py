"""What a configuration names and gives, held against the signature of what it names."""

import inspect
from collections.abc import Iterator
from importlib import import_module
from typing import Any

_HYDRA_KEYS = ("_target_", "_partial_", "_recursive_", "_convert_", "_args_")


def targets(node: Any, name: str) -> Iterator[tuple[str, dict[str, Any]]]:
    """Every dictionary with a ``_target_``, with its place."""
    if isinstance(node, dict):
        if "_target_" in node:
            yield name, node
        for key, value in node.items():
            yield from targets(value, f"{name}.{key}" if name else str(key))
    elif isinstance(node, list):
        for number, value in enumerate(node):
            yield from targets(value, f"{name}.{number}")


def signature_faults(node: dict[str, Any]) -> Iterator[tuple[str, str]]:
    """Key and fault, where the target's signature speaks against the given arguments."""
    try:
        parameters = _parameters(_locate(node["_target_"]))
    except (ImportError, AttributeError, ValueError, TypeError) as error:
        yield "_target_", f"{node['_target_']!r} cannot be used: {error}"
        return
    given = [key for key in node if key not in _HYDRA_KEYS]
    if not any(p.kind is p.VAR_KEYWORD for p in parameters.values()):
        for key in given:
            if key not in parameters:
                yield key, f"{node['_target_']} takes no such argument; it takes {', '.join(parameters)}"
    if node.get("_partial_"):
        return
    for key, parameter in parameters.items():
        required = parameter.default is parameter.empty and parameter.kind in (
            parameter.KEYWORD_ONLY,
            parameter.POSITIONAL_OR_KEYWORD,
        )
        if required and key not in given:
            yield key, f"missing; {node['_target_']} needs it"


def _parameters(target: Any) -> dict[str, inspect.Parameter]:
    """What a target takes; one of our classes that takes any keyword hands it on to the class above it."""
    found = dict(inspect.signature(target).parameters)
    ours = inspect.isclass(target) and target.__module__.startswith("conmim_lightning.")
    if ours and any(p.kind is p.VAR_KEYWORD for p in found.values()):
        above = {name: p.replace(default=None) for name, p in _parameters(target.__base__).items()}
        found = above | {name: p for name, p in found.items() if p.kind not in (p.VAR_KEYWORD, p.VAR_POSITIONAL)}
    return found


def _locate(target: str) -> Any:
    """The object that a dotted path names."""
    parts = target.split(".")
    for length in range(len(parts) - 1, 0, -1):
        try:
            found: Any = import_module(".".join(parts[:length]))
        except ModuleNotFoundError as error:
            if error.name and not target.startswith(error.name):
                raise
            continue
        for part in parts[length:]:
            found = getattr(found, part)
        return found
    raise ImportError(f"no module {parts[0]!r}")
