import sys
from io import BytesIO

import numpy as np
import pillow_heif
import pytest
from PIL import Image
from sklearn.datasets import load_sample_image

from conmim_lightning.data.images.decode import Decoder
from conmim_lightning.data.images.files import BrokenImageError
from conmim_lightning.data.images.formats import DEFAULT_FORMATS, FORMATS, check_formats, is_image_name, pillow_names

PIXELS = np.random.default_rng(0).integers(0, 256, (20, 30, 3), dtype=np.uint8)


def encoded(name: str, **options) -> bytes:
    with BytesIO() as buffer:
        Image.fromarray(PIXELS).save(buffer, name, **options)
        return buffer.getvalue()


def test_image_names():
    assert all(map(is_image_name, ("a.jpg", "A.JPEG", b"x.PnG", "b.tif", "b.avif", "c.pgm", "d.jp2")))
    assert not any(map(is_image_name, ("jpg", "a.jpg.part", "x.txt", b"", "a.tga", "a.npy")))
    assert is_image_name("a.TGA", (".tga",))


@pytest.mark.parametrize(("name", "options"), [("AVIF", {}), ("JPEG2000", {"irreversible": False}), ("PPM", {})])
def test_more_formats_by_default(name, options):
    content = encoded(name, **options)
    pixels = Decoder().decode(content)
    expected = np.asarray(Image.open(BytesIO(content)))
    assert np.array_equal(pixels.permute(1, 2, 0).numpy(), expected)


def test_tga_only_on_request():
    with pytest.raises(BrokenImageError, match="UnidentifiedImageError"):
        Decoder().decode(encoded("TGA"))
    assert np.array_equal(Decoder(formats=["tga"]).decode(encoded("TGA")).permute(1, 2, 0).numpy(), PIXELS)


@pytest.mark.parametrize("name", ["JPEG", "PNG"])
def test_a_format_that_is_not_allowed_is_broken(name):
    with pytest.raises(BrokenImageError, match="UnidentifiedImageError"):
        Decoder(formats=["webp"]).decode(encoded(name))


def test_heic(tmp_path):
    path, smooth = tmp_path / "x.heic", load_sample_image("china.jpg")[:64, :96]
    pillow_heif.from_pillow(Image.fromarray(smooth)).save(path, quality=95)
    pixels = Decoder(formats=["jpeg", "heic"]).decode(path.read_bytes())
    assert abs(pixels.permute(1, 2, 0).numpy().astype(int) - smooth).mean() < 4, "lossy"


def test_heic_without_its_library(monkeypatch):
    monkeypatch.setitem(sys.modules, "pillow_heif", None)
    with pytest.raises(ValueError, match=r"conmim-lightning\[heic\]"):
        check_formats(["heic"])


@pytest.mark.parametrize("formats", [[], ["eps"], "jpeg"])
def test_unknown_formats(formats):
    with pytest.raises(ValueError, match=r"takes a list of jpeg, png"):
        check_formats(formats)


def test_no_format_starts_a_program():
    """Pillow hands EPS, WMF, IM and others to programs or plugins."""
    names = pillow_names(tuple(name for name in FORMATS if name != "heic"))
    assert set(names) <= {"JPEG", "PNG", "WEBP", "GIF", "BMP", "TIFF", "AVIF", "JPEG2000", "PPM", "TGA"}
    assert set(DEFAULT_FORMATS) == set(FORMATS) - {"tga", "heic", "npy"}
