from io import BytesIO

import numpy as np
import pytest
from PIL import Image

from conmim_lightning.data.images.decode import Decoder
from conmim_lightning.data.images.depth import check_value_range, to_eight_bits
from conmim_lightning.data.images.files import BrokenImageError

TWELVE_BITS = np.arange(0, 4096, 16, dtype=np.uint16).reshape(16, 16)


def saved(values: np.ndarray, name: str) -> bytes:
    with BytesIO() as buffer:
        Image.fromarray(values).save(buffer, name)
        return buffer.getvalue()


@pytest.mark.parametrize("name", ["PNG", "TIFF", "PPM"])
def test_twelve_bits_in_sixteen(name):
    content = saved(TWELVE_BITS, name)
    assert Decoder(channels=1).decode(content).max() == 15, "black without a range"
    pixels = Decoder(channels=1, value_range=[0, 4095]).decode(content)[0].numpy()
    assert np.array_equal(pixels, np.rint(TWELVE_BITS / 4095 * 255))


@pytest.mark.parametrize(
    ("values", "value_range"),
    [
        (np.linspace(0, 1, 256, dtype=np.float32).reshape(16, 16), [0, 1]),
        (np.linspace(-1000, 3000, 256).astype(np.int32).reshape(16, 16), [-1000, 3000]),
    ],
)
def test_floats_and_wide_integers_need_a_range(values, value_range):
    content = saved(values, "TIFF")
    with pytest.raises(BrokenImageError, match=r"NoValueRange: it has \w+ values from .* data\.decoder\.value_range="):
        Decoder(channels=1).decode(content)
    pixels = Decoder(value_range=value_range).decode(content)
    low, high = value_range
    expected = np.rint((values.astype(np.float64) - low) / (high - low) * 255)
    assert np.array_equal(pixels[0].numpy(), expected)
    assert pixels.shape == (3, 16, 16)


def test_eight_bits_are_never_scaled():
    values = np.arange(256, dtype=np.uint8).reshape(16, 16)
    assert np.array_equal(Decoder(channels=1, value_range=[0, 4095]).decode(saved(values, "PNG"))[0].numpy(), values)
    assert to_eight_bits(np.array([True, False]), None).tolist() == [255, 0]


def test_values_outside_the_range_are_limited():
    assert to_eight_bits(np.array([-5.0, 0.5, 7.0]), (0.0, 1.0)).tolist() == [0, 128, 255]


def test_values_that_are_not_finite():
    with pytest.raises(BrokenImageError, match="NotFinite: 2 of 3 values"):
        to_eight_bits(np.array([np.nan, np.inf, 0]), (0.0, 1.0))


@pytest.mark.parametrize("value_range", [[1, 0], [0], [0, float("nan")], [0, "1"], [2, 2]])
def test_invalid_ranges(value_range):
    with pytest.raises(ValueError, match=r"\[smallest, largest\]"):
        check_value_range(value_range)


def test_both_byte_orders_of_tiff():
    """ImageJ and others write the larger byte first."""
    values = np.arange(0, 65536, 256, dtype=np.uint16).reshape(16, 16)
    with BytesIO() as buffer:
        image = Image.frombytes("I;16B", (16, 16), values.astype(">u2").tobytes())
        image.save(buffer, "TIFF")
        content = buffer.getvalue()
    assert content.startswith((b"MM", b"II"))
    for encoded in (content, saved(values, "TIFF")):
        assert np.array_equal(Decoder(channels=1).decode(encoded)[0].numpy(), values >> 8)
    assert to_eight_bits(values.astype(">u2"), None).max() == 255


@pytest.mark.parametrize("comment", [b"", b"# made by a scanner\n"])
def test_the_values_of_a_pgm_are_those_of_its_file(comment):
    content = b"P5\n" + comment + b"16 16\n4095\n" + TWELVE_BITS.astype(">u2").tobytes()
    pixels = Decoder(channels=1, value_range=[0, 4095]).decode(content)[0].numpy()
    assert np.array_equal(pixels, np.rint(TWELVE_BITS / 4095 * 255))
    whole = Decoder(channels=1).decode(content)[0].numpy()
    assert abs(whole.astype(int) - pixels).max() <= 1, "without a range, the header's largest value is white"
