"""Comparison of a configuration with the signatures of its targets."""

import inspect
from collections.abc import Iterable, Iterator
from difflib import get_close_matches
from functools import cache
from importlib import import_module
from typing import Any

_HYDRA_KEYS = ("_target_", "_partial_", "_recursive_", "_convert_", "_args_")
_PACKAGE = "conmim_lightning."
_CUTOFF = 0.45  # smallest similarity by difflib
_SHORT = 3  # characters of names that are contained in many others

Parameters = dict[str, inspect.Parameter]


def targets(node: Any, name: str) -> Iterator[tuple[str, dict[str, Any]]]:
    """Yield the dotted name and content of every dictionary with a ``_target_``."""
    if isinstance(node, dict):
        if "_target_" in node:
            yield name, node
        for key, value in node.items():
            yield from targets(value, f"{name}.{key}" if name else str(key))
    elif isinstance(node, list):
        for index, value in enumerate(node):
            yield from targets(value, f"{name}.{index}")


def signature_faults(node: dict[str, Any]) -> Iterator[tuple[str, str]]:
    """Yield key and fault of each argument that does not fit the target's signature."""
    try:
        parameters = parameters_of(node["_target_"])
    except (ImportError, AttributeError, ValueError, TypeError) as error:
        yield "_target_", f"{node['_target_']!r} cannot be used: {error}"
        return
    given = [key for key in node if key not in _HYDRA_KEYS]
    if not any(p.kind is p.VAR_KEYWORD for p in parameters.values()):
        for key in given:
            if key not in parameters:
                yield key, f"{node['_target_']} takes no such argument; {allowed(key, parameters)}"
    if node.get("_partial_"):
        return
    for key, parameter in parameters.items():
        required = parameter.default is parameter.empty and parameter.kind in (
            parameter.KEYWORD_ONLY,
            parameter.POSITIONAL_OR_KEYWORD,
        )
        if required and key not in given:
            yield key, f"missing; {node['_target_']} needs it"


def allowed(key: str, keys: Iterable[str]) -> str:
    """Return a text with the allowed keys that are closest to an unknown key, then all of them."""
    names = [str(name) for name in keys if name not in _HYDRA_KEYS]
    contained = [name for name in names if len(name) > _SHORT and (name in key or key in name)]
    closest = list(dict.fromkeys([*contained, *get_close_matches(key, names, n=2, cutoff=_CUTOFF)]))[:2]
    suggestion = f"did you mean {' or '.join(closest)}? " if closest else ""
    return f"{suggestion}allowed are {', '.join(names)}"


@cache
def parameters_of(target: str) -> Parameters:
    """Return the parameters of a target by its dotted path, including those that a class passes on to its base class.

    Raises:
        ImportError, AttributeError, ValueError, TypeError: it cannot be imported, or is not callable.
    """
    return _parameters(_locate(target))


def _parameters(target: Any) -> Parameters:
    """Return the parameters of a target, including those that a class passes on to its base class.

    ``**kwargs`` are passed on to a base class of this package; ``*args`` and ``**kwargs`` together, to any base class.
    """
    try:
        parameters = dict(inspect.signature(target, eval_str=True).parameters)
    except NameError:  # names that only type checkers import
        parameters = dict(inspect.signature(target).parameters)
    passes_on = any(p.kind is p.VAR_KEYWORD for p in parameters.values())
    if not passes_on or not inspect.isclass(target):
        return parameters
    base = target.__mro__[1]
    passes_all = "__init__" in vars(target) and any(p.kind is p.VAR_POSITIONAL for p in parameters.values())
    if base is object or not (passes_all or base.__module__.startswith(_PACKAGE)):
        return parameters
    own = {name: p for name, p in parameters.items() if p.kind not in (p.VAR_KEYWORD, p.VAR_POSITIONAL)}
    inherited = _parameters(base)  # the class may set some of them itself
    variadic = (inspect.Parameter.VAR_KEYWORD, inspect.Parameter.VAR_POSITIONAL)
    optional = {name: p if p.kind in variadic else p.replace(default=None) for name, p in inherited.items()}
    return optional | own


def _locate(target: str) -> Any:
    """Return the object at a dotted path."""
    names = target.split(".")
    for length in range(len(names) - 1, 0, -1):
        try:
            result: Any = import_module(".".join(names[:length]))
        except ModuleNotFoundError as error:
            if error.name and not target.startswith(error.name):
                raise
            continue
        for name in names[length:]:
            result = getattr(result, name)
        return result
    raise ImportError(f"no module {names[0]!r}")
