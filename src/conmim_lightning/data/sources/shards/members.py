"""Which members of a shard are its images: at most one per sample, and a count of all others."""

from collections.abc import Sequence

from conmim_lightning.data.sources.selection import PassedOver, Selection


class MemberChoice:
    """Choice of the images of a shard by the names of its members.

    A sample is what precedes the last suffix of an image's name, so that ``IMG_2020.01.05.jpg`` and
    ``0001.input.jpg`` are images of their own. Of ``1.jpg`` and ``1.png``, the first one is taken, unless
    ``image_keys`` choose.

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

    Attributes:
        keys: samples of the images, in their order.
    """

    def __init__(self, choice: MemberChoice) -> None:
        self.choice = choice
        self.keys: list[str] = []
        self._taken: set[str] = set()
        self._others: set[str] = set()
        self._passed_over = PassedOver()
        self._left_out: dict[str, list[str]] = {"hostile": [], "key": [], "second": []}

    def takes(self, name: str) -> bool:
        """Return whether a member is the image of a new sample, and count it."""
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
            self.keys.append(key)
            return True
        return False

    def summary(self) -> list[str]:
        """Return one sentence per kind of members that were left out."""
        images = {sample_of(key)[0] for key in self.keys} | self._taken
        texts = {
            "hostile": "members whose names lead out of the archive are left out",
            "key": "images do not end in data.source.image_key and are left out",
            "second": "further images of a sample are left out (data.source.image_key chooses)",
        }
        listed = {texts[kind]: names for kind, names in self._left_out.items()}
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
