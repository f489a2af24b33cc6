from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from conmim_lightning.data.decode import Decoder
from conmim_lightning.data.files import read_file


def decode(path: Path, channels: int = 3) -> torch.Tensor:
    return Decoder(channels=channels).decode(read_file(str(path)))


@pytest.fixture
def picture():
    return np.random.default_rng(0).integers(0, 256, (20, 30, 3), dtype=np.uint8)


def test_png_comes_back_to_the_pixel(tmp_path: Path, picture):
    Image.fromarray(picture).save(tmp_path / "x.png")
    tensor = decode(tmp_path / "x.png")
    assert tensor.dtype == torch.uint8
    assert np.array_equal(tensor.permute(1, 2, 0).numpy(), picture)


@pytest.mark.parametrize("channels", [1, 3, 4])
@pytest.mark.parametrize("suffix", ["jpg", "png", "webp", "gif", "bmp", "tiff"])
def test_formats_and_channels(tmp_path: Path, picture, channels, suffix):
    Image.fromarray(picture).save(tmp_path / f"x.{suffix}")
    assert decode(tmp_path / f"x.{suffix}", channels).shape == (channels, 20, 30)


@pytest.mark.parametrize("mode", ["L", "P", "RGBA", "CMYK", "I;16"])
def test_other_modes_become_rgb(tmp_path: Path, picture, mode):
    suffix = "tiff" if mode == "CMYK" else "png"
    image = Image.fromarray(picture)
    image = Image.fromarray(picture[..., 0].astype(np.uint16)) if mode == "I;16" else image.convert(mode)
    image.save(tmp_path / f"x.{suffix}")
    assert decode(tmp_path / f"x.{suffix}").shape == (3, 20, 30)


def test_sixteen_bits_keep_their_shades(tmp_path: Path):
    ramp = np.arange(0, 65536, 256, dtype=np.uint16).reshape(16, 16)
    Image.fromarray(ramp).save(tmp_path / "x.png")
    assert np.array_equal(decode(tmp_path / "x.png", 1)[0].numpy(), ramp >> 8)


def test_exif_rotation(tmp_path: Path, picture):
    image = Image.fromarray(picture)
    exif = image.getexif()
    exif[0x0112] = 6  # to be turned by 270 degrees
    image.save(tmp_path / "x.png", exif=exif)
    assert np.array_equal(decode(tmp_path / "x.png").permute(1, 2, 0).numpy(), np.rot90(picture, -1))


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        ({"channels": 2}, "got 2"),
        ({"max_pixels": 0}, "max_pixels"),
        ({"max_bytes": -1}, "-1"),
        ({"max_scans": 0}, "max_scans"),
        ({"reducing_gap": 0.5}, "0.5"),
    ],
)
def test_bad_arguments(arguments, told):
    with pytest.raises(ValueError, match=told):
        Decoder(**arguments)
