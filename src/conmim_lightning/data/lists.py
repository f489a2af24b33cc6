"""Lists of images as text: a line each, name, tab, reason; what is excluded, and what was broken."""

from pathlib import Path

_ESCAPES = {"\\": "\\\\", "\t": "\\t", "\n": "\\n", "\r": "\\r"}


def to_line(name: str, reason: str = "") -> str:
    """A line of a list, without its end; whatever bytes a name has, it stays one line and can be read back."""
    for plain, escaped in _ESCAPES.items():
        name = name.replace(plain, escaped)
    return f"{name}\t{' '.join(reason.split())}".rstrip("\t")


def from_line(line: str) -> str:
    """The name in a line of a list."""
    name = line.split("\t", 1)[0].rstrip("\r\n")
    parts = name.split("\\\\")
    for plain, escaped in _ESCAPES.items():
        if plain != "\\":
            parts = [part.replace(escaped, plain) for part in parts]
    return "\\".join(parts)


def read_names(path: str) -> set[str]:
    """Names of a list file; lines that start with # are remarks.

    Raises:
        ValueError: the file cannot be read.
    """
    try:
        lines = Path(path).read_text("utf-8", "surrogateescape").split("\n")
    except OSError as error:
        raise ValueError(f"list of images {path!r} cannot be read: {error.strerror}") from error
    return {from_line(line) for line in lines if line.strip() and not line.startswith("#")}
