"""Which members of a shard are its images: at most one per sample, and a count of all others."""

from collections.abc import Sequence
from tarfile import TarInfo

from conmim_lightning.data.sources.selection import PassedOver, Selection

_LEFT_OUT = {
    "repeated": "members with the name of an earlier one are left out",
    "special": "members that are not files (links, devices, sparse files) are left out",
    "hostile": "members whose names lead out of the archive are left out",
    "key": "images do not end in data.source.image_key and are left out",
    "second": "further images of a sample are left out (data.source.image_key chooses)",
}
"""Sentence by kind of members that are left out."""


class MemberChoice:
    """Choice of the images of a shard by the names of its members.

    Of consecutive images with one WebDataset sample, such as ``1.jpg`` and ``1.seg.png``, the one without a further
    suffix is taken; of several of those, such as ``1.jpg`` and ``1.png``, the first. If all have a further suffix, such
    as ``IMG_2020.01.05.jpg`` and ``0001.input.jpg``, all are taken. ``image_keys`` choose otherwise.

    Args:
        selection: choice of image files.
        image_keys: ends of the names of the images, such as "input.jpg"; empty takes all images.
    """

    def __init__(self, selection: Selection, image_keys: Sequence[str] = ()) -> None:
        self.selection = selection
        self.image_keys = tuple(f".{key.lower().lstrip('.')}" for key in image_keys)

    def begin(self) -> "ShardMembers":
        """Return the empty list of a shard."""
        return ShardMembers(self)


class ShardMembers:
    """The members of a shard that have been seen.

    Args:
        choice: choice of the images.
    """

    def __init__(self, choice: MemberChoice) -> None:
        self.choice = choice
        self._seen: set[str] = set()
        self._keys: set[str] = set()
        self._taken: set[str] = set()
        self._others: set[str] = set()
        self._passed_over = PassedOver()
        self._left_out: dict[str, list[str]] = {kind: [] for kind in _LEFT_OUT}

    def is_new_file(self, member: TarInfo) -> bool:
        """Return whether a member is a regular file whose name no earlier one has; count it otherwise."""
        if member.isdir():
            return False
        if not member.isreg() or member.sparse is not None:  # type: ignore[attr-defined]
            self._left_out["special"].append(member.name)
        elif member.name in self._seen:
            self._left_out["repeated"].append(member.name)
        else:
            self._seen.add(member.name)
            return True
        return False

    def takes(self, name: str) -> bool:
        """Return whether a member may be an image, and count it; see ``choose``."""
        if is_hostile(name):
            self._left_out["hostile"].append(name)
        elif self.choice.selection.leaves_hidden_path(name):
            self._passed_over.add_hidden(name)
        elif not self.choice.selection.is_image(name):
            self._others.add(sample_of(name)[0])
        elif (key := self._key(name)) is None:
            self._left_out["key"].append(name)
        elif key in self._taken:
            self._left_out["second"].append(name)
        else:
            self._taken.add(key)
            return True
        return False

    def choose(self, names: Sequence[str]) -> list[str]:
        """Return the images of one sample, of the consecutive members that may be images."""
        plain = [name for name in names if self._key(name) == sample_of(name)[0]]
        chosen = list(names) if self.choice.image_keys or not plain else plain[:1]
        self._left_out["second"] += [name for name in names if name not in chosen]
        self._keys |= {sample_of(name)[0] for name in chosen}
        return chosen

    def key(self, name: str) -> str:
        """Return the name of an image without the suffix that made it an image."""
        return self._key(name) or name

    def summary(self) -> list[str]:
        """Return one sentence per kind of members that were left out."""
        images = self._keys | self._taken
        listed = {_LEFT_OUT[kind]: names for kind, names in self._left_out.items()}
        listed["samples have no image"] = sorted(self._others - images)
        counted = [f"{len(names)} {text}, the first is {names[0]!r}" for text, names in listed.items() if names]
        return counted + self._passed_over.notes()

    def _key(self, name: str) -> str | None:
        if not self.choice.image_keys:
            return name.rpartition(".")[0]
        end = next((end for end in self.choice.image_keys if name.lower().endswith(end)), None)
        return None if end is None else name[: -len(end)]


def image_keys(image_key: str | Sequence[str] | None) -> tuple[str, ...]:
    """Return a key, or several, as a tuple."""
    return (image_key,) if isinstance(image_key, str) else tuple(image_key or ())


def sample_of(name: str) -> tuple[str, str]:
    """Return WebDataset's sample and lower-case extension of a member: split at the first dot of its file name."""
    folder, slash, base = name.rpartition("/")
    stem, _, extension = base.partition(".")
    return (folder + slash + stem, extension.lower()) if stem else (name, "")


def is_hostile(name: str) -> bool:
    """Return whether a member's name leads out of the archive."""
    return name.startswith("/") or ".." in name.split("/")
