"""Arguments of the command line: paths with ~ and $VARIABLE, and advice on quoting for Hydra and the shell."""

import os
import re
import shlex
from collections.abc import Sequence
from pathlib import Path

_QUOTED = re.compile(r"""("(?:\\.|[^"])*"|'(?:\\.|[^'])*')""")
_START = r"(^|[\[{,:]\s*)"  # of a value, also of one in a list, dictionary or sweep
_HOME = re.compile(_START + r"~(?=/|\s*(?:$|[,\]}]))")
_PATH_VARIABLE = re.compile(_START + r"\$(\w+)(?=/|\s*(?:$|[,\]}]))")
_OVERRIDE = re.compile(r"(?P<key>[~+]{0,2}[\w./@-]+)=(?P<value>.*)", re.DOTALL)
_AMBIGUOUS = re.compile(r"Ambiguous value for argument '(.*?)'(?:\n|$)", re.DOTALL)
_COLLECTIONS = ("{", "[")
_STRUCTURES = ("'", '"', *_COLLECTIONS)
_SPLIT = re.compile(r"(?<!\\)\{split\}")


def expand_arguments(words: Sequence[str]) -> list[str]:
    """Return arguments whose values are read as a shell user expects.

    In values, and in those of lists and dictionaries, a leading ``~`` is the home folder, a leading ``$VARIABLE`` that
    is set is its content; ``{split}`` is text. The rest is Hydra's grammar.
    """
    return [_expanded(word) for word in words]


def quoting_advice(error: BaseException) -> str:
    """Return a line that shows the argument that Hydra could not read, quoted for Hydra and the shell; or nothing."""
    override = getattr(error, "override", None)
    if override is None and (ambiguous := _AMBIGUOUS.match(str(error))):
        override = ambiguous[1]
    if not isinstance(override, str):
        return ""
    match = _OVERRIDE.fullmatch(override)
    if match is None or not match["value"]:
        return (
            f"\n{override!r} is not an argument of the form key=value; if it belongs to the value before it, quote that"
            " value, such as 'data.root=\"/my images\"'"
        )
    advice = f"\nto use the value as text, write {quoted(match['key'], match['value'])}"
    if match["value"].startswith(_COLLECTIONS):
        example = shlex.quote(f'{match["key"]}=["a text", "another"]')
        advice += f"; in a list or dictionary, put each text in quotation marks, such as {example}"
    return advice


def quoted(key: str, value: str) -> str:
    """Return an argument with a text as its value, quoted for Hydra and for the shell."""
    escaped = value.replace("\\", "\\\\") if value.endswith("\\") else value
    text = '"' + escaped.replace('"', '\\"') + '"'
    return shlex.quote(f"{key}={text}")


def _expanded(word: str) -> str:
    match = _OVERRIDE.fullmatch(word)
    if match is None:
        return word
    value = match["value"]
    if not value.startswith(_STRUCTURES) or value.startswith("{split}"):
        value = _SPLIT.sub(r"\\{split\\}", value)
    pieces = _QUOTED.split(value)
    pieces[::2] = [_PATH_VARIABLE.sub(_variable, _HOME.sub(_home, piece)) for piece in pieces[::2]]
    return f"{match['key']}={''.join(pieces)}"


def _home(match: re.Match[str]) -> str:
    return match[1] + str(Path.home())


def _variable(match: re.Match[str]) -> str:
    return match[1] + os.environ[match[2]] if match[2] in os.environ else match[0]
