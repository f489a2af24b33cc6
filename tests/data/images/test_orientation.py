from io import BytesIO

import numpy as np
import pytest
from PIL import Image, PngImagePlugin

from conmim_lightning.data.images.decode import Decoder

PIXELS = np.random.default_rng(0).integers(0, 256, (20, 30, 3), dtype=np.uint8)
EXIF = Image.Exif()
EXIF[0x0112] = 6
XMP = b'<x:xmpmeta><rdf:RDF><rdf:Description tiff:Orientation="6"/></rdf:RDF></x:xmpmeta>'


def saved(name: str, **options) -> bytes:
    with BytesIO() as buffer:
        Image.fromarray(PIXELS).save(buffer, name, **options)
        return buffer.getvalue()


def text_chunk(key: str, text: str) -> PngImagePlugin.PngInfo:
    info = PngImagePlugin.PngInfo()
    info.add_text(key, text)
    return info


def xmp_in_png() -> PngImagePlugin.PngInfo:
    info = PngImagePlugin.PngInfo()
    info.add_itxt("XML:com.adobe.xmp", XMP.decode())
    return info


def raw_profile() -> PngImagePlugin.PngInfo:
    """ImageMagick's way: "exif", the length and hexadecimal digits."""
    block = EXIF.tobytes()
    return text_chunk("Raw profile type exif", f"\nexif\n{len(block):8d}\n{block.hex()}\n")


def late_exif() -> bytes:
    """A PNG whose EXIF chunk follows the pixels."""
    content = saved("PNG", exif=EXIF.tobytes())
    start = content.index(b"eXIf") - 4
    end = start + 12 + int.from_bytes(content[start : start + 4], "big")
    rest = content[:start] + content[end:]
    return rest[:-12] + content[start:end] + rest[-12:]


@pytest.mark.parametrize(
    "content",
    [
        saved("PNG", exif=EXIF.tobytes()),
        saved("PNG", pnginfo=raw_profile()),
        saved("PNG", pnginfo=xmp_in_png()),
        late_exif(),
        saved("WEBP", lossless=True, xmp=XMP),
        saved("WEBP", lossless=True, exif=EXIF.tobytes()),
        saved("TIFF", tiffinfo={0x0112: 6}),
    ],
    ids=["exif", "raw profile", "xmp", "late exif", "webp xmp", "webp exif", "tiff"],
)
def test_every_place_of_the_orientation(content):
    image = Decoder().open(content)
    assert (image.width, image.height) == (20, 30)
    assert np.array_equal(image.whole().permute(1, 2, 0).numpy(), np.rot90(PIXELS, -1))


@pytest.mark.parametrize("fast", [True, False])
def test_a_jpeg_with_xmp(fast):
    content = saved("JPEG", xmp=XMP, quality=95)
    upright = Decoder(fast=fast).decode(saved("JPEG", quality=95))
    assert np.array_equal(Decoder(fast=fast).decode(content).numpy(), np.rot90(upright.numpy(), -1, (1, 2)))


def test_annotations_made_without_it():
    assert Decoder(upright=False).open(saved("PNG", pnginfo=raw_profile())).width == 30


def test_nonsense_is_upright():
    content = saved("PNG", pnginfo=text_chunk("Raw profile type exif", "\nexif\n 4\nzzzz\n"))
    assert Decoder().open(content).width == 30
