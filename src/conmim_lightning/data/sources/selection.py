"""Which files of a collection are its images, and a count of all others."""

import os
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from conmim_lightning.data.images.formats import DEFAULT_FORMATS, FORMATS, is_image_name, suffixes_of

_SYSTEM = {"__macosx", "@eadir", "thumbs.db", "desktop.ini", "$recycle.bin", "lost+found", "#recycle", "icon\r"}
_SHOWN = 5
_ALL_SUFFIXES = tuple(suffix for known in FORMATS.values() for suffix in known.suffixes)


class Selection:
    """Choice of image files by their names.

    Args:
        formats: formats whose suffixes are taken, see ``data.images.formats.FORMATS``.
        include_hidden: also take files and folders that begin with a dot or belong to an operating system
            (``__MACOSX``, ``@eaDir``, ...).

    Raises:
        ValueError: a format is unknown or not installed.
    """

    def __init__(self, formats: Sequence[str] = DEFAULT_FORMATS, include_hidden: bool = False) -> None:
        self.suffixes = suffixes_of(formats)
        self.include_hidden = include_hidden

    def is_image(self, name: str | bytes) -> bool:
        """Return whether a name has the suffix of one of the formats."""
        return is_image_name(name, self.suffixes)

    def leaves_hidden(self, name: str | bytes) -> bool:
        """Return whether a file or folder is passed over because of its name, without its folders."""
        if self.include_hidden:
            return False
        text = os.fsdecode(name)
        return text.startswith(".") or text.lower() in _SYSTEM

    def leaves_hidden_path(self, path: str) -> bool:
        """Return whether a file is passed over because of its name or that of one of its folders."""
        return not self.include_hidden and any(name != "." and self.leaves_hidden(name) for name in path.split("/"))


@dataclass
class PassedOver:
    """A count of the files that are not taken.

    Attributes:
        hidden: number of hidden files and folders, and of those of an operating system.
        example: one of them.
        suffixes: number of other files by suffix, in lower case.
    """

    hidden: int = 0
    example: str = ""
    suffixes: Counter[str] = field(default_factory=Counter)

    def add_hidden(self, name: str | bytes) -> None:
        """Count a hidden file or folder."""
        self.hidden += 1
        self.example = self.example or os.fsdecode(name)

    def add_other(self, name: str | bytes) -> None:
        """Count a file that is no image."""
        self.suffixes[Path(os.fsdecode(name)).suffix.lower()] += 1

    def __iadd__(self, other: "PassedOver") -> "PassedOver":
        """Add another count."""
        self.hidden += other.hidden
        self.example = self.example or other.example
        self.suffixes += other.suffixes
        return self

    def notes(self) -> list[str]:
        """Return one sentence per kind."""
        sentences = []
        if self.hidden:
            sentences.append(
                f"hidden or system files and folders passed over: {self.hidden}, such as {self.example!r} "
                "(data.source.include_hidden=true takes them)"
            )
        if self.suffixes:
            ordered = sorted(self.suffixes.items(), key=lambda item: (-item[1], not item[0], item[0]))
            listed = [f"{count} {suffix or 'without suffix'}" for suffix, count in ordered[:_SHOWN]]
            listed += [f"{len(self.suffixes) - _SHOWN} other suffixes"] if len(self.suffixes) > _SHOWN else []
            readable = any(suffix in _ALL_SUFFIXES for suffix in self.suffixes)
            hint = " (data.decoder.formats chooses the formats)" if readable else ""
            sentences.append(f"files passed over: {', '.join(listed)}{hint}")
        return sentences
