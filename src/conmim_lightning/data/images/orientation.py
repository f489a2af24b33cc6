"""The orientation that an image's metadata give: EXIF, ImageMagick's raw profile in PNG, and XMP."""

from PIL import Image

from conmim_lightning.data.images.files import BrokenImageError, guarded

TAG = 0x0112
ROTATED, SIDEWAYS = range(2, 9), range(5, 9)
FROM_RIGHT, FROM_BELOW = (2, 3, 6, 7), (3, 4, 7, 8)  # left, or top, edge was right or bottom

_KEYS = ("exif", "Raw profile type exif", "XML:com.adobe.xmp", "xmp")
_LATE = b"eXIf"  # a PNG may have this chunk after its pixels, where only a search finds it early


def orientation_of(image: Image.Image, content: bytes) -> int:
    """Return the orientation of an opened image, 1 to 8 as in EXIF; 1, upright, without valid metadata.

    Args:
        image: opened image.
        content: content of its file.
    """
    if image.format == "TIFF":
        return 1  # Pillow rotates these itself
    if not (any(key in image.info for key in _KEYS) or (image.format == "PNG" and _LATE in content)):
        return 1
    try:
        value = guarded(image.getexif).get(TAG, 1)
    except BrokenImageError:
        return 1
    return value if isinstance(value, int) and 1 <= value <= 8 else 1
