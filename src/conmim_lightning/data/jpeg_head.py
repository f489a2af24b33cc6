"""What stands before the pixels of a JPEG, as far as decoding needs to know it."""

from typing import NamedTuple

_APP1, _SCAN = 0xE1, 0xDA
_PROGRESSIVE = {0xC2, 0xC6, 0xCA, 0xCE}  # frames with many scans


class JPEGHead(NamedTuple):
    """Whether there is an EXIF segment, and whether the pixels come in many scans."""

    exif: bool
    progressive: bool


def jpeg_head(content: bytes) -> JPEGHead:
    """Go through the segments before the first scan; whatever makes no sense ends the search."""
    exif = progressive = False
    place = 2
    while place + 4 <= len(content) and content[place] == 0xFF:
        marker = content[place + 1]
        if marker == _SCAN:
            break
        exif |= marker == _APP1 and content.startswith(b"Exif\0", place + 4)
        progressive |= marker in _PROGRESSIVE
        place += 2 + int.from_bytes(content[place + 2 : place + 4], "big")
    return JPEGHead(exif, progressive)
