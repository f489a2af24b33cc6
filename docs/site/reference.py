"""Pages of reference, generated from the configuration files, the signatures and the docstrings."""

import html
import inspect
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import yaml

import conmim_lightning
from conmim_lightning.config.check import CONF_DIR
from conmim_lightning.config.signatures import parameters_of
from conmim_lightning.reporting.gauges import GAUGES

_CONF = Path(CONF_DIR)
_OWN = "conmim_lightning."
_ENTRY = r"^    (\w+): (.*?)(?=^    \S|\Z)"  # of an argument, with continued lines


def gauges_page() -> str:
    """Return the page of metrics: what each means, what it does in a run that learns, and what to do otherwise."""
    lines = [
        "# Read the gauges",
        "",
        "What each metric means, and what to do when it looks wrong. A run's `report.html` has the same table with its",
        "final values. `_start` is the value of the initial weights, `_pixels` that of raw pixels, `_error` a standard",
        "error.",
        "",
    ]
    for gauge in GAUGES:
        names = ", ".join(f"`{name}`" for name in _alternatives(gauge.pattern))
        lines += [f"## {names}", "", gauge.meaning, "", f"**In a run that learns.** {gauge.healthy}", ""]
        lines += [f"**Otherwise.** {gauge.otherwise}", ""] if gauge.otherwise else []
    return "\n".join(lines)


def groups_page() -> str:
    """Return the page of configuration groups: the options of each, their files, and the arguments of their targets."""
    help_text = yaml.safe_load((_CONF / "hydra" / "help" / "groups.yaml").read_text("utf-8"))["template"]
    purposes = dict(re.findall(r"^  ([a-z/]+)  +(\S.*)$", help_text, re.MULTILINE))
    lines = ["# Groups of settings", "", "Generated from `conf/` and the signatures of the classes that it names.", ""]
    for group, purpose in purposes.items():
        files = sorted((_CONF / group).glob("*.yaml"))
        lines += [f"## `{group}`", "", f"{purpose[0].upper()}{purpose[1:]}.", ""]
        for path in files:
            lines += [f"### `{group}={path.stem}`", "", "```yaml", path.read_text("utf-8").rstrip(), "```", ""]
        for target in dict.fromkeys(name for path in files for name in _targets(path)):
            lines += _arguments(target)
    return "\n".join(lines)


def python_page() -> str:
    """Return the page of the Python API, which mkdocstrings fills from the docstrings."""
    lines = ["# Python", "", "What `conmim_lightning` exports. Everything else is internal.", ""]
    for name in conmim_lightning.__all__:
        lines += [f"::: {_OWN}{conmim_lightning._MODULES[name]}.{name}", ""]
    return "\n".join(lines)


def _alternatives(pattern: str) -> Iterator[str]:
    """Yield the names of a pattern, with one alternative of each group spelled out."""
    if match := re.search(r"\(([^()]*)\)", pattern):
        for option in match[1].split("|"):
            yield from _alternatives(pattern[: match.start()] + option + pattern[match.end() :])
    else:
        yield from (name.replace("[15]", "1").replace(".*", "*") for name in pattern.split("|"))


def _targets(path: Path) -> list[str]:
    """Return the classes and functions of this project that a file names."""
    return [name for name in re.findall(r"_target_:\s*([\w.]+)", path.read_text("utf-8")) if name.startswith(_OWN)]


def _arguments(target: str) -> list[str]:
    """Return a table of a target's arguments: annotation, default, and meaning from the docstring."""
    meanings = _meanings(_object(target))
    rows = [
        f"| `{name}` | `{_annotation(parameter)}` | {_default(parameter)} | {meanings.get(name, '')} |"
        for name, parameter in parameters_of(target).items()
        if parameter.kind not in (parameter.VAR_KEYWORD, parameter.VAR_POSITIONAL)
    ]
    if not rows:
        return []
    return [f"Arguments of `{target}`:", "", "| argument | type | default | meaning |", "|---|---|---|---|", *rows, ""]


def _object(target: str) -> Any:
    module, _, name = target.rpartition(".")
    return getattr(__import__(module, fromlist=[name]), name)


def _annotation(parameter: inspect.Parameter) -> str:
    annotation = parameter.annotation
    if annotation is parameter.empty:
        return ""
    text = annotation if isinstance(annotation, str) else inspect.formatannotation(annotation)
    return re.sub(r"\b(?:[a-z_]+\.)+", "", text).replace(" | ", " or ")


def _default(parameter: inspect.Parameter) -> str:
    if parameter.default is parameter.empty:
        return "required"
    text = repr(parameter.default)
    return "" if text.startswith("<") or "functools" in text else f"`{text}`".replace("|", "\\|")


def _meanings(target: Any) -> dict[str, str]:
    """Return the texts of the section Args of a docstring, and of those of its base classes, by argument."""
    meanings: dict[str, str] = {}
    for each in target.__mro__ if inspect.isclass(target) else [target]:
        section = re.search(r"^Args:\n(.*?)(?:^\S|\Z)", inspect.getdoc(each) or "", re.DOTALL | re.MULTILINE)
        entries = re.findall(_ENTRY, section[1] if section else "", re.DOTALL | re.MULTILINE)
        for name, text in entries:
            meanings.setdefault(
                name, html.escape(" ".join(text.split()), quote=False).replace("|", "\\|").replace("``", "`")
            )
    return meanings
