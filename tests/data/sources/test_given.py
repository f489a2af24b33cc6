import io

import numpy as np
import pytest
from PIL import Image
from sklearn.datasets import load_sample_image

from conmim_lightning.data.images.decode import Decoder
from conmim_lightning.data.images.files import BrokenImageError
from conmim_lightning.data.samplers.epoch import SampleKey
from conmim_lightning.data.sources.given import GivenImages, image_bytes

PIXELS = load_sample_image("china.jpg")[:40, :60]


def decoded(image) -> np.ndarray:
    return Decoder().decode(image_bytes(image)).permute(1, 2, 0).numpy()


def test_all_forms_have_the_same_pixels(tmp_path):
    path = tmp_path / "x.png"
    Image.fromarray(PIXELS).save(path)
    for image in (str(path), path, path.read_bytes(), Image.open(path), Image.fromarray(PIXELS)):
        assert np.array_equal(decoded(image), PIXELS)


def test_images_of_pillow_are_turned_upright():
    exif = Image.Exif()
    exif[0x0112] = 6
    with io.BytesIO() as buffer:
        Image.fromarray(PIXELS).save(buffer, "PNG", exif=exif)
        image = Image.open(io.BytesIO(buffer.getvalue()))
        assert np.array_equal(decoded(image), np.rot90(PIXELS, -1))
        assert np.array_equal(decoded(buffer.getvalue()), np.rot90(PIXELS, -1))


def test_names(tmp_path):
    source = GivenImages([tmp_path / "a.jpg", b"x", Image.fromarray(PIXELS)])
    assert [source.name(index) for index in range(len(source))] == [f"{tmp_path}/a.jpg", "image 1", "image 2"]
    assert source.read(SampleKey(0, 1)) == b"x"
    with pytest.raises(BrokenImageError, match="FileNotFoundError"):
        source.read(SampleKey(0, 0))
    assert source.fingerprint() != GivenImages([b"x"]).fingerprint()


def test_what_is_no_image():
    with pytest.raises(TypeError, match="an image is a path, the bytes of a file or an image of Pillow, got int"):
        image_bytes(3)
    with pytest.raises(BrokenImageError, match="mode F"):
        image_bytes(Image.new("F", (3, 3)))
