"""Text lists of excluded or broken images: one image per line, as name, tab, reason."""

from pathlib import Path

_ESCAPES = {"\\": "\\\\", "\t": "\\t", "\n": "\\n", "\r": "\\r"}


def to_line(name: str, reason: str = "") -> str:
    """Format a line of a list, without newline; any name, whatever its bytes, fits on one line and can be read back."""
    for character, escape in _ESCAPES.items():
        name = name.replace(character, escape)
    return f"{name}\t{' '.join(reason.split())}".rstrip("\t")


def from_line(line: str) -> str:
    """Return the name in a line of a list."""
    name = line.split("\t", 1)[0].rstrip("\r\n")
    pieces = name.split("\\\\")
    for character, escape in _ESCAPES.items():
        if character != "\\":
            pieces = [piece.replace(escape, character) for piece in pieces]
    return "\\".join(pieces)


def read_names(path: str) -> set[str]:
    """Read the names of a list file; lines that start with # are comments.

    Raises:
        ValueError: the file cannot be read.
    """
    try:
        lines = Path(path).read_text("utf-8", "surrogateescape").split("\n")
    except OSError as error:
        raise ValueError(f"list of images {path!r} cannot be read: {error.strerror}") from error
    return {from_line(line) for line in lines if line.strip() and not line.startswith("#")}
