"""Images in tar archives in WebDataset's layout, read at random without unpacking."""

import os
from collections import OrderedDict
from collections.abc import Sequence

import numpy as np

from conmim_lightning.data.files import BrokenImageError, check_folder, check_size
from conmim_lightning.data.mapped import Names
from conmim_lightning.data.sampler import SampleKey
from conmim_lightning.data.shard_index import indexed
from conmim_lightning.data.sources import Numbered, class_names, digest_of

_OPEN_FILES = 64


class ShardSource(Numbered):
    """Every image of every shard, numbered by shard, then place in it; so shuffling is global and resuming exact.

    Where each image lies is found once and kept (28 bytes an image and its name); only shards that changed are read
    again.

    Args:
        root: folder with ``.tar`` files at any depth.
        index_dir: where to keep the index; null keeps it in memory.
        labelled: take the class of each image from the sample's ``.cls`` member, a whole number.
        classes: names of the classes by number; null takes the numbers.

    Raises:
        ValueError: root is missing, or holds no shard or no image; or, when labelled, an image has no label.
    """

    def __init__(
        self,
        root: str | os.PathLike[str],
        *,
        index_dir: str | None = None,
        labelled: bool = False,
        classes: Sequence[str] | None = None,
    ) -> None:
        check_folder(root)
        self.root = os.fspath(root)
        self.index = indexed(os.path.realpath(root), index_dir)
        self.notes = self.index.header["notes"]
        self._map()
        if not len(self):
            told = "; ".join(self.notes[:3]) or "no file below it ends in .tar"
            raise ValueError(f"no image in the shards below {self.root!r}: {told}")
        if labelled:
            self.classes = self._classes(classes)

    def _map(self) -> None:
        """Views of the index, and no open files yet."""
        found = self.index
        self._names = Names(found["name_text"], found["name_ends"])
        self._shards = Names(found["shard_text"], found["shard_ends"])
        self._firsts = found["shard_firsts"]
        self._open: OrderedDict[int, int] = OrderedDict()

    def __getstate__(self) -> dict[str, object]:
        """The index travels as a file's name; open files stay."""
        return {name: value for name, value in self.__dict__.items() if not name.startswith("_")}

    def __setstate__(self, state: dict[str, object]) -> None:
        """Map the index again."""
        self.__dict__ |= state
        self._map()

    def __len__(self) -> int:
        """Number of images."""
        return len(self.index["offsets"])

    def name(self, index: int) -> str:
        """Shard and member."""
        return f"{os.fsdecode(self._shards[self._shard(index)])}/{os.fsdecode(self._names[index])}"

    def fingerprint(self) -> str:
        """From all names and places."""
        return digest_of(self._names.text, self._names.ends, self._shards.text, self._firsts, self.index["offsets"])

    def label(self, index: int) -> int:
        """Class of an image, from 0."""
        return int(self.index["labels"][index])

    def read(self, key: SampleKey, max_bytes: int | None = None) -> bytes:
        """An image's bytes, from their place in the shard."""
        size, offset = int(self.index["sizes"][key.index]), int(self.index["offsets"][key.index])
        check_size(size, max_bytes)
        try:
            content = os.pread(self._handle(self._shard(key.index)), size, offset)
        except OSError as error:
            raise BrokenImageError(f"{type(error).__name__}: {error.strerror}") from error
        if len(content) < size:
            raise BrokenImageError(f"Truncated: the shard ends after {len(content)} of the image's {size} bytes")
        return content

    def _shard(self, index: int) -> int:
        return int(np.searchsorted(self._firsts, index, side="right")) - 1

    def _handle(self, shard: int) -> int:
        """An open file; pread has no position that processes could share, so handles survive a fork."""
        if shard in self._open:
            self._open.move_to_end(shard)
            return self._open[shard]
        if len(self._open) >= _OPEN_FILES:
            os.close(self._open.popitem(last=False)[1])
        handle = os.open(os.path.join(os.fsencode(self.root), self._shards[shard]), os.O_RDONLY | os.O_CLOEXEC)
        self._open[shard] = handle
        return handle

    def _classes(self, classes: Sequence[str] | None) -> Sequence[str]:
        labels = self.index["labels"]
        names = class_names(int(labels.max()), self.root) if classes is None else list(classes)
        if (wrong := (labels < 0) | (labels >= len(names))).any():
            first = int(np.argmax(wrong))
            raise ValueError(
                f"{int(wrong.sum())} of {len(self)} images in {self.root!r} have no label from 0 to {len(names) - 1} "
                f"in a .cls member, the first is {self.name(first)!r}"
            )
        return names
