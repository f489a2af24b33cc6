import struct
import sys
import zlib
from io import BytesIO

import numpy as np
import pytest
import tifffile
import torch
from PIL import Image, ImageOps

from conmim_lightning.data.images.decode import Decoder
from conmim_lightning.data.images.files import BrokenImageError

RNG = np.random.default_rng(0)
SIX = RNG.integers(0, 256, (20, 30, 6), dtype=np.uint8)


def npy(values: np.ndarray) -> bytes:
    with BytesIO() as buffer:
        np.save(buffer, values)
        return buffer.getvalue()


def tiff(values: np.ndarray, **options) -> bytes:
    with BytesIO() as buffer:
        tifffile.imwrite(buffer, values, **options)
        return buffer.getvalue()


def deep_png(values: np.ndarray) -> bytes:
    """A PNG of three channels of 16 bits, which Pillow cannot write."""

    def chunk(name: bytes, content: bytes) -> bytes:
        return struct.pack(">I", len(content)) + name + content + struct.pack(">I", zlib.crc32(name + content))

    height, width, _ = values.shape
    rows = b"".join(b"\0" + row.astype(">u2").tobytes() for row in values)
    header = struct.pack(">IIBBBBB", width, height, 16, 2, 0, 0, 0)
    chunks = chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + chunks


def decoder(channels: int = 6, **others) -> Decoder:
    return Decoder(channels=channels, formats=["npy", "tiff", "png", "jpeg"], **others)


@pytest.mark.parametrize(
    "values",
    [SIX, SIX.transpose(2, 0, 1), np.asfortranarray(SIX), SIX.astype(">u2") * 256],
    ids=["last", "first", "fortran", "big-endian"],
)
def test_arrays_of_six_bands(values):
    image = decoder().open(npy(values))
    assert (image.width, image.height, image.format) == (30, 20, "NPY")
    assert torch.equal(image.whole(), torch.from_numpy(SIX).permute(2, 0, 1))
    assert image.region((0, 0, 20, 20), 8).shape == (6, 8, 8)


@pytest.mark.parametrize("planes", [False, True])
@pytest.mark.parametrize("bands", [4, 5, 6, 32])
def test_multi_band_tiff(planes, bands):
    values = RNG.integers(0, 4096, (20, 30, bands), dtype=np.uint16)
    stored = values.transpose(2, 0, 1) if planes else values
    content = tiff(stored, photometric="minisblack", planarconfig="separate" if planes else "contig")
    image = decoder(bands, value_range=[0, 4095]).open(content)
    assert (image.width, image.height) == (30, 20)
    assert np.array_equal(image.whole().permute(1, 2, 0).numpy(), np.rint(values / 4095 * 255))


@pytest.mark.parametrize("stored", [SIX, SIX.transpose(2, 0, 1)], ids=["last", "pages"])
def test_arrays_as_tifffile_writes_them_by_default(stored):
    """Six pages; or, of channels that come last, as many pages as rows."""
    image = decoder().open(tiff(stored, compression="zlib"))
    assert (image.width, image.height) == (30, 20)
    assert torch.equal(image.whole(), torch.from_numpy(SIX).permute(2, 0, 1))


def test_infrared_is_no_alpha():
    """Four bands that are not said to be RGBA."""
    four = SIX[..., :4]
    content = tiff(four, photometric="rgb", extrasamples=["unspecified"])
    assert np.array_equal(decoder(4).decode(content).permute(1, 2, 0).numpy(), four)
    alpha = tiff(four, photometric="rgb", extrasamples=["unassalpha"])
    assert np.array_equal(decoder(4).decode(alpha).permute(1, 2, 0).numpy(), four)


@pytest.mark.parametrize("kind", ["png", "tiff"])
def test_colours_of_sixteen_bits(kind):
    """Pillow takes the upper eight bits, which are black for 12-bit values."""
    values = RNG.integers(0, 4096, (20, 30, 3), dtype=np.uint16)
    content = tiff(values, photometric="rgb") if kind == "tiff" else deep_png(values)
    assert decoder(3).decode(content).max() <= 16
    pixels = decoder(3, value_range=[0, 4095]).decode(content).permute(1, 2, 0).numpy()
    assert np.array_equal(pixels, np.rint(values / 4095 * 255))


def test_grey_and_rgb_arrays_become_each_other():
    assert decoder(3).decode(npy(SIX[..., 0])).shape == (3, 20, 30)
    assert decoder(1).decode(npy(SIX[..., :3])).shape == (1, 20, 30)


@pytest.mark.parametrize(
    ("content", "channels", "message"),
    [
        (npy(SIX), 5, "Channels: it has 6 channels, data.decoder.channels is 5"),
        (npy(SIX[..., 0]), 6, "Channels: it has 1 channels"),
        (npy(SIX)[:-1], 6, "the file ends within the 3600 values"),
        (npy(np.zeros((2, 2, 2, 2))), 6, r"an array of shape \(2, 2, 2, 2\)"),
        (npy(np.zeros((0, 5))), 6, "an array of shape"),
        (npy(np.zeros((4, 4), "S3")), 6, "an array of |S3"),
        (b"\x93NUMPY\x01\x00\xff\xff{", 6, "Value|EOF|header"),
        (npy(np.zeros((20, 30, 6), np.float32)), 6, "NoValueRange"),
        (npy(np.zeros((20, 30, 6), np.complex64)), 6, "complex64"),
    ],
)
def test_arrays_that_are_no_images(content, channels, message):
    with pytest.raises(BrokenImageError, match=message):
        decoder(channels).decode(content)


def test_pickled_objects_are_not_loaded():
    with BytesIO() as buffer:
        np.save(buffer, np.array([[print]], object), allow_pickle=True)
        with pytest.raises(BrokenImageError, match="object"):
            decoder().decode(buffer.getvalue())


def test_an_ordinary_image_has_no_six_bands():
    with BytesIO() as buffer:
        Image.new("RGB", (8, 8)).save(buffer, "PNG")
        with pytest.raises(BrokenImageError, match=r"Channels: it has no bands, data\.decoder\.channels is 6"):
            decoder().decode(buffer.getvalue())


def test_a_large_array_is_rejected_before_it_is_read():
    with pytest.raises(BrokenImageError, match="TooLarge: 30 x 20 pixels"):
        decoder(max_pixels=100).decode(npy(SIX))


def test_tiff_without_its_library(monkeypatch):
    content = tiff(SIX, photometric="minisblack")
    monkeypatch.setitem(sys.modules, "tifffile", None)
    with pytest.raises(BrokenImageError, match=r"conmim-lightning\[scientific\]"):
        decoder().decode(content)


@pytest.mark.parametrize(
    ("channels", "options"), [(2, {}), (5, {"photometric": "rgb"}), (5, {"photometric": "separated"})]
)
def test_what_pillow_reads_stays_with_pillow(channels, options):
    """Grey with alpha, RGB or CMYK with further samples."""
    values = RNG.integers(0, 256, (20, 30, channels), dtype=np.uint8)
    extra = {
        "extrasamples": ["unassalpha"] if channels == 2 else ["unspecified"] * (2 if "rgb" in options.values() else 1)
    }
    content = tiff(values, **({"photometric": "minisblack"} | options), planarconfig="contig", **extra)
    expected = np.asarray(Image.open(BytesIO(content)).convert("RGB"))
    assert np.array_equal(decoder(3).decode(content).permute(1, 2, 0).numpy(), expected)


@pytest.mark.parametrize("orientation", range(1, 9))
def test_bands_are_turned_upright(orientation):
    """As Pillow turns an image of three channels with the same tag."""
    content = tiff(SIX, photometric="minisblack", planarconfig="contig", extratags=[(274, 3, 1, orientation, True)])
    three = Image.fromarray(SIX[..., :3])
    exif = three.getexif()
    exif[274] = orientation
    expected = np.asarray(ImageOps.exif_transpose(three)) if orientation > 1 else SIX[..., :3]
    image = decoder().open(content)
    assert (image.height, image.width) == expected.shape[:2]
    assert np.array_equal(image.whole()[:3].permute(1, 2, 0).numpy(), expected)
    assert decoder(upright=False).open(content).width == 30


def test_a_negative_side():
    content = npy(np.zeros((10, 64, 3), np.uint8)).replace(b"(10, 64, 3)", b"(-1, 64, 3)")
    with pytest.raises(BrokenImageError, match="is not an image"):
        decoder(3).open(content)
