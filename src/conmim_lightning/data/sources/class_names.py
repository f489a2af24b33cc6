"""Names of classes from a file."""

from pathlib import Path


def read_class_names(path: Path) -> list[str]:
    """Read one name per line, or the last column of a table with tabs, without its header."""
    try:
        lines = [line.strip() for line in path.read_text("utf-8").splitlines() if line.strip()]
    except (OSError, UnicodeDecodeError) as error:
        raise ValueError(f"class file {str(path)!r} cannot be read: {error}") from error
    if lines and "\t" in lines[0]:
        lines = [line.split("\t")[-1].split(",")[0].strip() for line in lines[1:]]
    if repeated := sorted({name for name in lines if lines.count(name) > 1}):
        lines = [f"{name} {number}" if name in repeated else name for number, name in enumerate(lines, 1)]
    return lines
