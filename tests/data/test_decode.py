from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from conmim_lightning.data.decode import BrokenImageError, check_channels, decode, to_tensor


@pytest.fixture
def picture():
    return np.random.default_rng(0).integers(0, 256, (20, 30, 3), dtype=np.uint8)


def test_png_comes_back_to_the_pixel(tmp_path: Path, picture):
    Image.fromarray(picture).save(tmp_path / "x.png")
    tensor = to_tensor(decode(tmp_path / "x.png"))
    assert tensor.dtype == torch.uint8
    assert np.array_equal(tensor.permute(1, 2, 0).numpy(), picture)


@pytest.mark.parametrize(("channels", "mode"), [(1, "L"), (3, "RGB"), (4, "RGBA")])
@pytest.mark.parametrize("suffix", ["jpg", "png", "webp", "gif", "bmp", "tiff"])
def test_formats_and_channels(tmp_path: Path, picture, channels, mode, suffix):
    Image.fromarray(picture).save(tmp_path / f"x.{suffix}")
    image = decode(tmp_path / f"x.{suffix}", channels)
    assert image.mode == mode
    assert to_tensor(image).shape == (channels, 20, 30)


@pytest.mark.parametrize("mode", ["L", "P", "RGBA", "CMYK", "I;16"])
def test_other_modes_become_rgb(tmp_path: Path, picture, mode):
    suffix = "tiff" if mode == "CMYK" else "png"
    image = Image.fromarray(picture)
    image = Image.fromarray(picture[..., 0].astype(np.uint16)) if mode == "I;16" else image.convert(mode)
    image.save(tmp_path / f"x.{suffix}")
    assert to_tensor(decode(tmp_path / f"x.{suffix}")).shape == (3, 20, 30)


def test_sixteen_bits_keep_their_shades(tmp_path: Path):
    ramp = np.arange(0, 65536, 256, dtype=np.uint16).reshape(16, 16)
    Image.fromarray(ramp).save(tmp_path / "x.png")
    assert np.array_equal(np.asarray(decode(tmp_path / "x.png", 1)), ramp >> 8)


def test_exif_rotation(tmp_path: Path, picture):
    image = Image.fromarray(picture)
    exif = image.getexif()
    exif[0x0112] = 6  # to be turned by 270 degrees
    image.save(tmp_path / "x.png", exif=exif)
    assert np.array_equal(np.asarray(decode(tmp_path / "x.png")), np.rot90(picture, -1))


def broken_files(folder: Path):
    Image.fromarray(np.zeros((40, 40, 3), np.uint8)).save(folder / "good.jpg")
    content = (folder / "good.jpg").read_bytes()
    cases = {
        "empty.jpg": b"",
        "header only.jpg": content[:20],
        "truncated.jpg": content[: len(content) // 2],
        "html.jpg": b"<html><body>404</body></html>",
        "random.png": bytes(range(256)) * 4,
    }
    for name, data in cases.items():
        (folder / name).write_bytes(data)
    (folder / "folder.jpg").mkdir()
    (folder / "dangling.jpg").symlink_to(folder / "nowhere")
    return [*cases, "folder.jpg", "dangling.jpg", "missing.jpg"]


def test_broken_files_say_why(tmp_path: Path):
    for name in broken_files(tmp_path):
        with pytest.raises(BrokenImageError, match=r"\w+: .+"):
            decode(tmp_path / name)


def test_too_many_pixels(tmp_path: Path):
    for side, told in ((17_400, "17400 x 17400 pixels, more than 300000000"), (25_000, "exceeds limit")):
        Image.new("1", (side, side)).save(tmp_path / "bomb.png")
        with pytest.raises(BrokenImageError, match=told):
            decode(tmp_path / "bomb.png")


def test_channels():
    with pytest.raises(ValueError, match="got 2"):
        check_channels(2)
