"""Images that a program gives: paths, bytes and Pillow's images."""

from collections.abc import Sequence
from io import BytesIO
from os import PathLike, fsencode, fspath

from PIL import Image, ImageOps

from conmim_lightning.data.images.files import BrokenImageError, read_file
from conmim_lightning.data.samplers.epoch import SampleKey
from conmim_lightning.data.sources.array_file import PackedStrings
from conmim_lightning.data.sources.base import IndexedSource, digest_of

GivenImage = str | PathLike[str] | bytes | Image.Image
"""Path of an image file, the content of one, or an image of Pillow."""


class GivenImages(IndexedSource):
    """Images in the order in which they are given.

    Args:
        images: the images.
    """

    def __init__(self, images: Sequence[GivenImage]) -> None:
        self.images = list(images)
        self.root = "the given images"

    def __len__(self) -> int:
        """Number of images."""
        return len(self.images)

    def name(self, index: int) -> str:
        """Path of an image file, or the position of another image."""
        image = self.images[index]
        return fspath(image) if isinstance(image, str | PathLike) else f"image {index}"

    def read(self, key: SampleKey, max_bytes: int | None = None) -> bytes:
        """Return the content of an image file."""
        return image_bytes(self.images[key.index], max_bytes)

    def fingerprint(self) -> str:
        """Return a digest of all names."""
        names = PackedStrings.of(fsencode(self.name(index)) for index in range(len(self)))
        return digest_of(names.text, names.ends)


def image_bytes(image: GivenImage, max_bytes: int | None = None) -> bytes:
    """Return the content of an image file; an image of Pillow is turned upright and encoded as PNG.

    Raises:
        BrokenImageError: the file cannot be read, or Pillow cannot encode the image as PNG.
        TypeError: it is none of these.
    """
    if isinstance(image, bytes):
        return image
    if isinstance(image, Image.Image):
        return _encoded(image)
    if isinstance(image, str | PathLike):
        return read_file(fspath(image), max_bytes)
    raise TypeError(f"an image is a path, the bytes of a file or an image of Pillow, got {type(image).__name__}")


def _encoded(image: Image.Image) -> bytes:
    with BytesIO() as buffer:
        try:
            ImageOps.exif_transpose(image).save(buffer, "PNG", compress_level=0)
        except (OSError, ValueError) as error:
            raise BrokenImageError(f"{type(error).__name__}: {error}") from error
        return buffer.getvalue()
