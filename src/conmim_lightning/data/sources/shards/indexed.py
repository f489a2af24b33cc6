"""Images in tar archives in WebDataset's layout, with random access."""

import os
from collections import OrderedDict
from collections.abc import Sequence

import numpy as np

from conmim_lightning.data.images.files import BrokenImageError, check_folder, check_size
from conmim_lightning.data.images.formats import DEFAULT_FORMATS
from conmim_lightning.data.samplers.epoch import SampleKey
from conmim_lightning.data.sources.array_file import PackedStrings
from conmim_lightning.data.sources.base import IndexedSource, digest_of, number_classes
from conmim_lightning.data.sources.selection import Selection
from conmim_lightning.data.sources.shards.index import shard_files, shard_index
from conmim_lightning.data.sources.shards.members import MemberChoice, image_keys

_OPEN_FILES = 64


class ShardSource(IndexedSource):
    """Images of all shards, indexed by shard, then position in the shard; shuffling is global, resuming is exact.

    The position of each image is found once and stored (28 bytes per image and its name); later, only shards that
    changed are read again.

    Args:
        root: folder with ``.tar`` files at any depth.
        index_dir: folder to store the index in; null keeps it in memory.
        labelled: whether the class of an image is the integer in the sample's ``.cls`` member.
        classes: names of the classes by index; null for the numbers.
        image_key: end, or ends, of the images' names, such as "input.jpg", where a sample has several images; null
            takes all images, and of those that differ only in the last suffix the first.
        formats: see ``FolderSource``.
        include_hidden: see ``FolderSource``.

    Raises:
        ValueError: root is missing, or holds no shard or no image; or, if labelled, an image has no label.
    """

    def __init__(
        self,
        root: str | os.PathLike[str],
        *,
        index_dir: str | None = None,
        labelled: bool = False,
        classes: Sequence[str] | None = None,
        image_key: str | Sequence[str] | None = None,
        formats: Sequence[str] = DEFAULT_FORMATS,
        include_hidden: bool = False,
    ) -> None:
        check_folder(root)
        self.root = os.fspath(root)
        choice = MemberChoice(Selection(formats, include_hidden), image_keys(image_key))
        files = shard_files(os.path.realpath(root))
        self.index = shard_index(os.path.realpath(root), files.tars, index_dir, choice)
        self.notes = [*files.notes(self.root), *self.index.header["notes"]]
        self._map()
        if not len(self):
            reasons = "; ".join(self.notes[:3]) or "no file below it ends in .tar"
            raise ValueError(f"no image in the shards below {self.root!r}: {reasons}")
        if labelled:
            self.classes = self._check_labels(classes)

    def _map(self) -> None:
        """Create views of the index, without open files."""
        self._names = PackedStrings(self.index["name_text"], self.index["name_ends"])
        self._shards = PackedStrings(self.index["shard_text"], self.index["shard_ends"])
        self._firsts = self.index["shard_firsts"]
        self._open: OrderedDict[int, int] = OrderedDict()

    def __getstate__(self) -> dict[str, object]:
        """Pickle the index as a path, without open files."""
        return {name: value for name, value in self.__dict__.items() if not name.startswith("_")}

    def __setstate__(self, state: dict[str, object]) -> None:
        """Map the index again."""
        self.__dict__ |= state
        self._map()

    def __len__(self) -> int:
        """Number of images."""
        return len(self.index["offsets"])

    def name(self, index: int) -> str:
        """Names of the shard and of the member."""
        return f"{os.fsdecode(self._shards[self._shard(index)])}/{os.fsdecode(self._names[index])}"

    def fingerprint(self) -> str:
        """Return a digest of all names and positions."""
        return digest_of(self._names.text, self._names.ends, self._shards.text, self._firsts, self.index["offsets"])

    def label(self, index: int) -> int:
        """Class of an image, from 0."""
        return int(self.index["labels"][index])

    def read(self, key: SampleKey, max_bytes: int | None = None) -> bytes:
        """Read an image from its position in the shard."""
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
        """Return the open handle of a shard; pread does not use the shared file position, so handles survive a fork."""
        if shard in self._open:
            self._open.move_to_end(shard)
            return self._open[shard]
        if len(self._open) >= _OPEN_FILES:
            os.close(self._open.popitem(last=False)[1])
        handle = os.open(os.path.join(os.fsencode(self.root), self._shards[shard]), os.O_RDONLY | os.O_CLOEXEC)
        self._open[shard] = handle
        return handle

    def _check_labels(self, classes: Sequence[str] | None) -> Sequence[str]:
        labels = self.index["labels"]
        names = number_classes(int(labels.max()), self.root) if classes is None else list(classes)
        if (wrong := (labels < 0) | (labels >= len(names))).any():
            first = int(np.argmax(wrong))
            raise ValueError(
                f"{int(wrong.sum())} of {len(self)} images in {self.root!r} have no label from 0 to {len(names) - 1} "
                f"in a .cls member, the first is {self.name(first)!r}"
            )
        return names
