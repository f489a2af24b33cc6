"""The header of a JPEG, as far as decoding needs it."""

from typing import NamedTuple

_APP1, _SCAN = 0xE1, 0xDA
_PROGRESSIVE = {0xC2, 0xC6, 0xCA, 0xCE}  # frames with many scans


class JPEGHeader(NamedTuple):
    """Whether there is an EXIF segment, and whether the pixels are stored in many scans."""

    exif: bool
    progressive: bool


def jpeg_header(content: bytes) -> JPEGHeader:
    """Parse the segments before the first scan; a damaged segment ends the search."""
    exif = progressive = False
    offset = 2
    while offset + 4 <= len(content) and content[offset] == 0xFF:
        marker = content[offset + 1]
        if marker == _SCAN:
            break
        exif |= marker == _APP1 and content.startswith(b"Exif\0", offset + 4)
        progressive |= marker in _PROGRESSIVE
        offset += 2 + int.from_bytes(content[offset + 2 : offset + 4], "big")
    return JPEGHeader(exif, progressive)
