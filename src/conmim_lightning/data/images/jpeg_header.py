"""The header of a JPEG, as far as decoding needs it."""

from typing import NamedTuple

_APP1, _SCAN = 0xE1, 0xDA
_PROGRESSIVE = {0xC2, 0xC6, 0xCA, 0xCE}  # frames with many scans


class JPEGHeader(NamedTuple):
    """What precedes the pixels of a JPEG.

    Attributes:
        oriented: whether there may be an orientation, in EXIF or XMP.
        progressive: whether the pixels are stored in many scans.
        complete: whether the content reaches the first scan.
    """

    oriented: bool
    progressive: bool
    complete: bool


def jpeg_header(content: bytes) -> JPEGHeader:
    """Parse the segments before the first scan; a damaged segment ends the search."""
    oriented = progressive = complete = False
    offset = 2
    while offset + 4 <= len(content) and content[offset] == 0xFF:
        marker = content[offset + 1]
        if complete := marker == _SCAN:
            break
        end = offset + 2 + int.from_bytes(content[offset + 2 : offset + 4], "big")
        if marker == _APP1:
            oriented |= content.startswith(b"Exif\0", offset + 4)
            oriented |= content.find(b"Orientation", offset + 4, end) >= 0
        progressive |= marker in _PROGRESSIVE
        offset = end
    return JPEGHeader(oriented, progressive, complete)
