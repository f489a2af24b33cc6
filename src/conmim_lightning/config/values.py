"""Comparison of a configuration's values with the annotations of the arguments that take them."""

import math
import types
from collections.abc import Iterator, Mapping, Sequence
from functools import lru_cache
from typing import Any, Literal, Union, get_args, get_origin

from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException
from pydantic import ConfigDict, TypeAdapter, ValidationError
from pydantic.errors import PydanticUserError
from pydantic_core import SchemaError

from conmim_lightning.config.signatures import parameters_of, targets

_WORDS = {
    int: "a whole number",
    float: "a number",
    bool: "true or false",
    str: "text",
    type(None): "null",
    dict: "a dictionary",
    Mapping: "a dictionary",
}
_PLURALS = {"a whole number": "whole numbers", "a number": "numbers", "text": "texts"}
_LISTS = ("list", "tuple", "Sequence", "Iterable", "Collection", "Set")
_UNUSABLE = (PydanticUserError, SchemaError, NameError, TypeError)
_LARGEST = math.inf
_SHOWN = 80

_RANGES: dict[str, tuple[float, float]] = {
    **dict.fromkeys(("batch_size", "evaluation_batch_size", "probe_batch_size", "devices", "num_nodes"), (1, _LARGEST)),
    **dict.fromkeys(("img_size", "patch_size", "embed_dim", "depth", "num_heads", "in_chans"), (1, _LARGEST)),
    **dict.fromkeys(("every_n_epochs", "check_val_every_n_epoch", "log_every_n_steps"), (1, _LARGEST)),
    **dict.fromkeys(("num_workers", "lr", "weight_decay", "eps"), (0, _LARGEST)),
    **dict.fromkeys(("betas", "momentum"), (0, 1)),
    **dict.fromkeys(("drop_path_rate", "drop_rate", "flip"), (0, 1)),
}
"""Smallest and largest value of arguments, also in lists, by their name."""

_TOP_LEVEL: dict[str, Any] = {
    "seed": int,
    "resume": str | None,
    "objective": str | None,
    "report": bool,
    "artifact": bool,
    "stages": list[Literal["fit", "test"]],
    "checkpoint": str | None,
    "trust": list[str],
    "kind": list[Literal["predictions", "attention", "similarity", "pca", "neighbors", "queries"]] | None,
    "pictures": int | None,
    "branch": Literal["teacher", "student"],
    "against": str | None,
    "layer": int,
    "heads": list[int] | None,
    "patch": list[int] | None,
    "neighbors": int,
    "gallery": int,
    "interpolate": bool,
    "file_format": Literal["png", "pdf", "svg"],
}
"""Annotations of keys outside of groups."""


def value_faults(cfg: DictConfig, written: Any, *, without_data: bool = False) -> dict[str, tuple[str, str]]:
    """Return, by key, the target's dotted name and the fault of each value that its argument cannot take.

    Args:
        cfg: composed configuration.
        written: the same as containers, with interpolations.
        without_data: whether ``data.root`` may be null.
    """
    faults: dict[str, tuple[str, str]] = {}
    for name, where, fault in _all_faults(cfg, written):
        may_be_null = without_data and where == "data.root" and cfg.data.root is None
        if not where.startswith("paths.") and not may_be_null:  # paths are checked elsewhere
            faults.setdefault(where, (name, f"{where}: {fault}"))
    return faults


def _all_faults(cfg: DictConfig, written: Any) -> Iterator[tuple[str, str, str]]:
    for key, annotation in _TOP_LEVEL.items():
        if key in written and not fits(written[key], annotation) and "${" not in str(written[key]):
            yield "", key, f"{describe(annotation)} is needed, got {_shown(written[key])}"
    for name, node in targets(written, ""):
        try:
            parameters = parameters_of(node["_target_"])
        except (ImportError, AttributeError, ValueError, TypeError):
            continue  # reported elsewhere
        for key, value in node.items():
            if key in parameters:
                annotation = parameters[key].annotation
                yield from ((name, *fault) for fault in _argument_faults(cfg, f"{name}.{key}", value, annotation))


def _argument_faults(cfg: DictConfig, where: str, written: Any, annotation: Any) -> Iterator[tuple[str, str]]:
    """Yield the key that gives the value, which an interpolation names, and the fault."""
    try:
        value = OmegaConf.select(cfg, where)
        value = OmegaConf.to_container(value, resolve=True) if OmegaConf.is_config(value) else value
    except (OmegaConfBaseException, ValueError):
        return  # reported elsewhere
    source = _source(written)
    if _has_more(value) or written == "???" or (source and value is None):  # null: filled in later
        return
    argument = where.rpartition(".")[2]
    where = source or where
    if isinstance(value, str) and value.startswith("~/"):
        yield where, f"~ is not expanded in configuration files, got {value!r}; write ${{oc.env:HOME}}{value[1:]}"
    elif not fits(value, annotation):
        yield where, f"{describe(annotation)} is needed, got {_shown(value)}"
    elif fault := range_fault(argument, value):
        yield where, fault


def fits(value: Any, annotation: Any) -> bool:
    """Return whether an argument with an annotation takes a value: strictly, but a whole number is also a number."""
    adapter = _adapter_or_none(annotation)
    return adapter is None or any(_is_valid(adapter, form) for form in _forms(value))


def describe(annotation: Any) -> str:
    """Return what values an annotation allows, in words; empty if it does not concern plain values."""
    return " or ".join(dict.fromkeys(word for word in _words(annotation) if word))


def _words(annotation: Any) -> list[str]:
    """Return the words of each alternative."""
    origin, arguments = get_origin(annotation), get_args(annotation)
    if annotation in _WORDS:
        return [_WORDS[annotation]]
    if origin in (Union, types.UnionType):
        choices = [option for alternative in arguments for option in _options(alternative)]
        others = [alternative for alternative in arguments if get_origin(alternative) is not Literal]
        return ([_choice(choices)] if choices else []) + [word for other in others for word in _words(other)]
    if origin is Literal:
        return [_choice(list(arguments))]
    if getattr(origin or annotation, "__name__", "") in _LISTS:
        return [_list_of(origin, arguments)]
    return [_WORDS[origin]] if origin in _WORDS else []


def _options(annotation: Any) -> list[Any]:
    return list(get_args(annotation)) if get_origin(annotation) is Literal else []


def _choice(options: list[Any]) -> str:
    shown = list(dict.fromkeys(map(str, options)))
    return f"one of {', '.join(shown)}" if len(shown) > 1 else shown[0]


def _list_of(origin: Any, arguments: tuple[Any, ...]) -> str:
    """Return the words of a list, such as "a list of 2 numbers"."""
    kinds = {" or ".join(filter(None, _words(argument))) for argument in arguments if argument is not Ellipsis}
    kind = next(iter(kinds)) if len(kinds) == 1 else ""
    count = f"{len(arguments)} " if origin is tuple and Ellipsis not in arguments and len(arguments) > 1 else ""
    return f"a list of {count}{_PLURALS.get(kind, 'values')}{f', each {kind},' if kind.startswith('one of') else ''}"


def range_fault(key: str, value: Any) -> str:
    """Return what is wrong with a number that is outside the range of its argument; empty if nothing is."""
    numbers = value if isinstance(value, list) else [value]
    if any(isinstance(number, float) and (math.isnan(number) or _is_infinite(key, number)) for number in numbers):
        return f"must be finite, got {_shown(value)}"
    if key not in _RANGES:
        return ""
    low, high = _RANGES[key]
    for number in numbers:
        if isinstance(number, int | float) and not isinstance(number, bool) and not low <= number <= high:
            if number == -1 and key == "devices":  # all of them
                continue
            limits = f"at least {low}" if high == _LARGEST else f"from {low} to {high}"
            return f"must be {limits}, got {_shown(value)}"
    return ""


def _is_infinite(key: str, number: float) -> bool:
    """Return whether a number with a range is infinite; elsewhere, infinity may mean that there is no limit."""
    return key in _RANGES and math.isinf(number)


def _has_more(value: Any) -> bool:
    """Return whether a value has targets, which build objects, or missing values."""
    if isinstance(value, dict):
        return "_target_" in value or any(map(_has_more, value.values()))
    return value == "???" or (isinstance(value, list) and any(map(_has_more, value)))


def _source(written: Any) -> str:
    """Return the key that an interpolation such as ${seed} reads; empty for everything else."""
    if isinstance(written, str) and written.startswith("${") and written.endswith("}") and written.count("{") == 1:
        inner = written[2:-1]
        return inner if ":" not in inner and not inner.startswith(".") else ""
    return ""


def _forms(value: Any) -> Iterator[Any]:
    """Yield a value, and with tuples instead of its lists."""
    yield value
    if isinstance(value, list):
        yield _as_tuples(value)


def _as_tuples(value: Any) -> Any:
    return tuple(map(_as_tuples, value)) if isinstance(value, list) else value


def _is_valid(adapter: TypeAdapter[Any], value: Any) -> bool:
    try:
        adapter.validate_python(value, strict=True)
    except ValidationError:
        return False
    return True


def _adapter_or_none(annotation: Any) -> TypeAdapter[Any] | None:
    """Return a validator; None if there is no annotation, or one that says nothing about plain values."""
    try:
        return _adapter(annotation)
    except _UNUSABLE:
        return None


@lru_cache(maxsize=512)
def _adapter(annotation: Any) -> TypeAdapter[Any] | None:
    if not describe(annotation):
        return None
    return TypeAdapter(annotation, config=ConfigDict(arbitrary_types_allowed=True))


def _shown(value: Any) -> str:
    text = repr(list(value) if isinstance(value, Sequence) and not isinstance(value, str) else value)
    return text if len(text) <= _SHOWN else f"{text[:_SHOWN]}..."
