"""Image formats: their names in ``data.decoder.formats``, Pillow's names, and the suffixes of their files."""

import os
from collections.abc import Sequence
from functools import cache
from typing import NamedTuple

from PIL import Image


class Format(NamedTuple):
    """Pillow's names of a format and the suffixes of its files; no name if Pillow does not read it."""

    pillow: tuple[str, ...]
    suffixes: tuple[str, ...]


FORMATS = {
    "jpeg": Format(("JPEG",), (".jpg", ".jpeg", ".jpe", ".jfif")),
    "png": Format(("PNG",), (".png",)),
    "webp": Format(("WEBP",), (".webp",)),
    "gif": Format(("GIF",), (".gif",)),
    "bmp": Format(("BMP",), (".bmp",)),
    "tiff": Format(("TIFF",), (".tif", ".tiff")),
    "avif": Format(("AVIF",), (".avif",)),
    "jpeg2000": Format(("JPEG2000",), (".jp2", ".j2k", ".jpf", ".jpx", ".jpc", ".j2c")),
    "ppm": Format(("PPM",), (".ppm", ".pgm", ".pbm", ".pnm")),
    "tga": Format(("TGA",), (".tga",)),
    "heic": Format(("HEIF",), (".heic", ".heif")),
    "npy": Format((), (".npy",)),
}
"""Formats that can be chosen; Pillow reads others, some of which start programs."""

DEFAULT_FORMATS = ("jpeg", "png", "webp", "gif", "bmp", "tiff", "avif", "jpeg2000", "ppm")
"""Formats that are recognised by their first bytes. TGA has no mark, so that damaged files of other formats could pass
for it; HEIC needs pillow-heif; ``.npy`` files beside images are often not images."""


def check_formats(formats: Sequence[str]) -> tuple[str, ...]:
    """Return the formats as a tuple.

    Raises:
        ValueError: one of them is unknown or not installed, or there is none.
    """
    unknown = [name for name in formats if name not in FORMATS]
    if unknown or not formats or isinstance(formats, str):
        raise ValueError(f"decoder.formats takes a list of {', '.join(FORMATS)}, got {unknown or formats}")
    if "heic" in formats:
        _register_heif()
    return tuple(formats)


def suffixes_of(formats: Sequence[str]) -> tuple[str, ...]:
    """Return the suffixes of some formats, in lower case, with the dot."""
    return tuple(suffix for name in check_formats(formats) for suffix in FORMATS[name].suffixes)


def is_image_name(name: str | bytes, suffixes: tuple[str, ...] | None = None) -> bool:
    """Return whether a name has one of the suffixes (None: of the default formats), in upper or lower case."""
    return os.fsdecode(name).lower().endswith(suffixes or suffixes_of(DEFAULT_FORMATS))


@cache
def pillow_names(formats: tuple[str, ...]) -> tuple[str, ...]:
    """Return Pillow's names of some formats, without those that this Pillow lacks."""
    if "heic" in formats:
        _register_heif()
    Image.init()
    return tuple(name for key in formats for name in FORMATS[key].pillow if name in Image.OPEN)


def _register_heif() -> None:
    try:
        from pillow_heif import register_heif_opener
    except ImportError as error:
        raise ValueError("the format heic needs pillow-heif: pip install 'conmim-lightning[heic]'") from error
    register_heif_opener(thumbnails=False)
