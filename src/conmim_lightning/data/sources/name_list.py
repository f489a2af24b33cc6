r"""Text lists of excluded or broken images: one image per line, as name, tab, reason; lines from # on are comments.

Any name fits on a line: a backslash, tab, newline or carriage return is written as ``\\``, ``\t``, ``\n`` or ``\r``;
a # at the beginning as ``\#``; a space at the beginning or the end as ``\s``. Bytes that are not UTF-8 are kept.
"""

import re
from pathlib import Path

_ESCAPES = {"\\": "\\\\", "\t": "\\t", "\n": "\\n", "\r": "\\r"}
_CHARACTERS = {"\\": "\\", "t": "\t", "n": "\n", "r": "\r", "#": "#", "s": " "}


def to_line(name: str, reason: str = "") -> str:
    """Format a line of a list, without newline; any name, whatever its bytes, fits on one line and can be read back."""
    escaped = "".join(_ESCAPES.get(character, character) for character in name)
    if escaped.startswith("#"):
        escaped = f"\\{escaped}"
    if escaped.startswith(" "):
        escaped = f"\\s{escaped[1:]}"
    if escaped.endswith(" "):
        escaped = f"{escaped[:-1]}\\s"
    return f"{escaped}\t{' '.join(reason.split())}".rstrip("\t")


def from_line(line: str) -> str:
    """Return the name in a line of a list; a backslash before any other character stands for itself."""
    name = line.split("\t", 1)[0].strip("\r\n ")
    return re.sub(r"\\(.)", lambda match: _CHARACTERS.get(match[1], match[0]), name)


def read_names(path: str) -> set[str]:
    """Read the names of a list file; lines that start with # are comments.

    Raises:
        ValueError: the file cannot be read.
    """
    try:
        lines = Path(path).read_bytes().decode("utf-8", "surrogateescape").removeprefix("\ufeff").split("\n")
    except OSError as error:
        raise ValueError(f"list of images {path!r} cannot be read: {error.strerror}") from error
    return {from_line(line) for line in lines if line.strip(" \r") and not line.startswith("#")}
