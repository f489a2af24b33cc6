from io import BytesIO
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from sklearn.datasets import load_sample_image

from conmim_lightning.data.images.decode import Decoder
from conmim_lightning.data.images.files import BrokenImageError, read_file


def decode(path: Path, channels: int = 3) -> torch.Tensor:
    return Decoder(channels=channels).decode(read_file(str(path)))


@pytest.fixture
def pixels():
    return np.random.default_rng(0).integers(0, 256, (20, 30, 3), dtype=np.uint8)


def test_png_is_decoded_exactly(tmp_path: Path, pixels):
    Image.fromarray(pixels).save(tmp_path / "x.png")
    tensor = decode(tmp_path / "x.png")
    assert tensor.dtype == torch.uint8
    assert np.array_equal(tensor.permute(1, 2, 0).numpy(), pixels)


@pytest.mark.parametrize("channels", [1, 3, 4])
@pytest.mark.parametrize("suffix", ["jpg", "png", "webp", "gif", "bmp", "tiff"])
def test_formats_and_channels(tmp_path: Path, pixels, channels, suffix):
    Image.fromarray(pixels).save(tmp_path / f"x.{suffix}")
    assert decode(tmp_path / f"x.{suffix}", channels).shape == (channels, 20, 30)


@pytest.mark.parametrize("mode", ["L", "P", "RGBA", "CMYK", "I;16"])
def test_other_modes_become_rgb(tmp_path: Path, pixels, mode):
    suffix = "tiff" if mode == "CMYK" else "png"
    image = Image.fromarray(pixels)
    image = Image.fromarray(pixels[..., 0].astype(np.uint16)) if mode == "I;16" else image.convert(mode)
    image.save(tmp_path / f"x.{suffix}")
    assert decode(tmp_path / f"x.{suffix}").shape == (3, 20, 30)


def test_sixteen_bits_become_eight(tmp_path: Path):
    ramp = np.arange(0, 65536, 256, dtype=np.uint16).reshape(16, 16)
    Image.fromarray(ramp).save(tmp_path / "x.png")
    assert np.array_equal(decode(tmp_path / "x.png", 1)[0].numpy(), ramp >> 8)


def test_exif_rotation(tmp_path: Path, pixels):
    image = Image.fromarray(pixels)
    exif = image.getexif()
    exif[0x0112] = 6  # to be rotated by 270 degrees
    image.save(tmp_path / "x.png", exif=exif)
    assert np.array_equal(decode(tmp_path / "x.png").permute(1, 2, 0).numpy(), np.rot90(pixels, -1))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"channels": 33}, "got 33"),
        ({"max_pixels": 0}, "max_pixels"),
        ({"max_bytes": -1}, "-1"),
        ({"max_scans": 0}, "max_scans"),
        ({"reducing_gap": 0.5}, "0.5"),
    ],
)
def test_bad_arguments(arguments, message):
    with pytest.raises(ValueError, match=message):
        Decoder(**arguments)


def photograph(size: tuple[int, int], mode: str = "RGB", **options) -> bytes:
    with BytesIO() as buffer:
        image = Image.fromarray(load_sample_image("china.jpg")).resize(size, Image.Resampling.BICUBIC).convert(mode)
        image.save(buffer, "JPEG", quality=92, **options)
        return buffer.getvalue()


def rotated(by: int = 6) -> dict[str, bytes]:
    exif = Image.Exif()
    exif[0x0112] = by
    return {"exif": exif.tobytes()}


@pytest.mark.parametrize("fast", [True, False])
@pytest.mark.parametrize(
    ("size", "mode", "options"),
    [
        ((2001, 1333), "RGB", {}),
        ((1283, 857), "RGB", {"progressive": True}),
        ((2048, 1366), "L", {}),
        ((2001, 1333), "CMYK", {}),
        *(((2001, 1333), "RGB", rotated(by)) for by in range(2, 9)),
    ],
)
def test_reduced_decoding_keeps_the_region(size, mode, options, fast):
    """Also at sides that the reduction does not divide, within the tolerance that Decoder documents."""
    content = photograph(size, mode, **options)
    whole = Decoder(reducing_gap=None, fast=False).open(content)
    reduced = Decoder(fast=fast).open(content)
    for fraction in (1.0, 0.8, 0.55):
        width, height = int(whole.width * fraction), int(whole.height * fraction)
        box = (whole.width - width, whole.height - height, whole.width, whole.height)
        assert reduced._reduction(box, 64) > 1
        difference = (reduced.region(box, 64).int() - whole.region(box, 64).int()).abs().float()
        assert difference.mean() < 0.8
        assert difference.max() <= 20


def test_both_header_parsers_agree():
    for content in (photograph((100, 60)), photograph((100, 60), "L"), photograph((100, 60), progressive=True)):
        fast, slow = Decoder().open(content), Decoder(fast=False).open(content)
        assert (fast.width, fast.height, fast.format, fast.mode) == (slow.width, slow.height, slow.format, slow.mode)
        assert torch.equal(fast.whole(), slow.whole())
    sideways = photograph((100, 60), **rotated())
    assert (Decoder().open(sideways).width, Decoder().open(sideways).height) == (60, 100)


def test_scans_are_counted_in_progressive_files_only():
    trailer = b"\xff\xda" * 200
    assert Decoder().decode(photograph((40, 30)) + trailer).shape == (3, 30, 40)
    with pytest.raises(BrokenImageError, match="TooManyScans"):
        Decoder().open(photograph((40, 30), progressive=True) + trailer)


@pytest.mark.parametrize(
    "content", [b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n%%EndComments\n", b"8BPS" + bytes(60)]
)
def test_formats_that_pillow_would_hand_on_are_none(content):
    with pytest.raises(BrokenImageError, match="UnidentifiedImageError"):
        Decoder().open(content)
