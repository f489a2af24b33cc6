"""Trees of empty files."""

from pathlib import Path


def touch(root: Path, *names: str) -> Path:
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(b"")
    return root


def names(source) -> list[str]:
    return [source.name(index) for index in range(len(source))]
