"""A data source: the images of a zip archive."""

import os
import zipfile
import zlib

from conmim_lightning.data.images.files import BrokenImageError
from conmim_lightning.data.images.formats import is_image_name
from conmim_lightning.data.samplers.epoch import SampleKey
from conmim_lightning.data.sources.array_file import PackedStrings
from conmim_lightning.data.sources.base import IndexedSource


class ZipSource(IndexedSource):
    """Image files of a zip archive, in the order of their names.

    Args:
        root: the archive.

    Raises:
        ValueError: the archive cannot be read, or holds no image.
    """

    def __init__(self, root: str) -> None:
        self.root = root
        try:
            entries = self._archive().infolist()
        except (OSError, zipfile.BadZipFile) as error:
            raise ValueError(f"{root!r} is not a readable zip archive: {error}") from error
        names = sorted(os.fsencode(entry.filename) for entry in entries if is_image_name(entry.filename))
        self.names = PackedStrings.of(names)  # two arrays, because loader processes receive a copy
        if not names:
            raise ValueError(f"{root!r} holds no image")
        self.notes = [f"{len(entries) - len(names)} other entries are ignored"]
        self.digest = f"{zlib.crc32(repr([(entry.filename, entry.CRC) for entry in entries]).encode()):08x}"

    def __len__(self) -> int:
        return len(self.names)

    def name(self, index: int) -> str:
        """Path within the archive."""
        return os.fsdecode(self.names[index])

    def read(self, key: SampleKey, max_bytes: int | None = None) -> bytes:
        """Read an image file; each call opens the archive, so that loader processes share no file position."""
        try:
            with self._archive() as archive:
                name = self.name(key.index)
                size = archive.getinfo(name).file_size
                if max_bytes is not None and size > max_bytes:
                    raise BrokenImageError(f"{size} bytes are more than {max_bytes}")
                return archive.read(name)
        except (OSError, zipfile.BadZipFile, zlib.error) as error:
            raise BrokenImageError(str(error)) from error

    def fingerprint(self) -> str:
        """Of names and checksums."""
        return self.digest

    def _archive(self) -> zipfile.ZipFile:
        return zipfile.ZipFile(self.root)
