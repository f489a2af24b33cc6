import numpy as np
import pytest
from pycocotools import mask as codec

from conmim_lightning.data.sources.outlines import extent, run_lengths, valid_polygons


def compressed(mask: np.ndarray) -> dict:
    packed = codec.encode(np.asfortranarray(mask.astype(np.uint8)))
    return {"size": list(packed["size"]), "counts": packed["counts"].decode()}


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_run_lengths_agree_with_the_pixels():
    rng = np.random.default_rng(0)
    for _ in range(100):
        height, width = rng.integers(1, 40, 2)
        mask = rng.random((height, width)) < rng.random()
        outline = compressed(mask)
        counts = run_lengths(outline, height, width)
        flat = np.repeat(np.arange(len(counts)) % 2, counts)
        assert np.array_equal(flat.reshape(width, height).T, mask)
        if mask.any():
            rows, columns = np.nonzero(mask)
            expected = (columns.min(), rows.min(), columns.max() + 1, rows.max() + 1, mask.sum())
            assert extent(outline, height, width) == expected


def test_polygons():
    assert extent([[1, 1, 5, 1, 5, 4, 1, 4]], 10, 10) == (1, 1, 5, 4, 12)
    assert extent([[1, 1, 5, 1, 5, 4, 1, 4], [0, 0, 2, 0, 0, 2]], 10, 10) == (0, 0, 5, 4, 14)
    assert extent([[-3, -3, 5, -3, 5, 5, -3, 5]], 10, 10)[:4] == (0, 0, 5, 5)
    assert valid_polygons([[0, 0, 1, 1], [0, 0, 2, 0, 0, 2]], 9, 9) == [[0, 0, 2, 0, 0, 2]]


@pytest.mark.parametrize(
    ("outline", "message"),
    [
        ([[20, 20, 25, 20, 25, 25]], "covers nothing"),
        ([[1, 1, 5, 5, 9, 9]], "covers nothing"),
        ([[1.1, 1, 1.2, 1, 1.2, 9]], "covers nothing"),
        ({"size": [10, 10], "counts": [100]}, "covers nothing"),
        ({"size": [10, 10], "counts": [50, 51]}, "cover 101 of 100 pixels"),
        ({"size": [10, 10], "counts": [101, -1]}, "whole numbers from 0"),
        ({"size": [10, 10], "counts": [1.0, 99.0]}, "whole numbers from 0"),
        ({"size": [10, 10], "counts": "\x7f"}, "invalid place"),
        ({"size": [10, 10], "counts": "ooooooooo"}, "invalid place"),
        ({"size": [10, 10], "counts": "o"}, "end within a number"),
        ({"size": "10", "counts": [100]}, "run lengths are for 10"),
        ({"counts": [100]}, "polygons or run lengths"),
        ("text", "polygons or run lengths"),
        ([[1, 1, 5, float("nan"), 9, 9]], "in or near the image"),
        ([{"x": 1}], "at least three points"),
    ],
)
def test_invalid_outlines(outline, message):
    with pytest.raises(ValueError, match=message):
        extent(outline, 10, 10)


def test_an_outline_that_crosses_itself_covers_pixels():
    """A figure of eight, whose signed area is zero."""
    around = extent([[0, 0, 20, 0, 0, 20, 20, 20]], 20, 20)
    assert around[:4] == (0, 0, 20, 20)
