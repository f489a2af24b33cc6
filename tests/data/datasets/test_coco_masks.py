import warnings

import numpy as np
import pytest
from coco_files import SQUARE
from pycocotools import mask as codec

from conmim_lightning.data.datasets.coco_masks import decode_masks, encode_mask


def test_outlines_are_those_of_pycocotools():
    polygons = [[10.5, 10, 30, 12, 25, 33, 8, 30], [1, 1, 5, 1, 5, 5]]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # pycocotools under numpy 2
        expected = codec.decode(codec.merge(codec.frPyObjects(polygons, 50, 40))).astype(bool)
    packed = codec.encode(np.asfortranarray(expected.astype(np.uint8)))
    packed = {"size": packed["size"], "counts": packed["counts"].decode()}
    masks = decode_masks([polygons, packed, {"size": [50, 40], "counts": [0, 500, 1500]}], 50, 40, "x.jpg")
    assert np.array_equal(masks[0], expected)
    assert np.array_equal(masks[1], expected)
    assert masks[2][:, :10].all()
    assert not masks[2][:, 10:].any()
    assert encode_mask(expected) == packed


@pytest.mark.parametrize(
    ("outline", "message"),
    [
        ([[1, 2, 3, 4]], "at least three points"),
        ([], "at least three points"),
        ([[1, 2, 3, 4, 5, "x"]], "pixel coordinates in or near the image"),
        ([[1, 2, 3, 4, 5, 1e9]], "pixel coordinates in or near the image"),
        ({"size": [50, 40], "counts": [-5, 2005]}, ""),
        ({"size": [40, 50], "counts": [2000]}, r"run lengths are for \[40, 50\], .* are \[50, 40\]"),
        ({"size": [50, 40], "counts": [20]}, "cover 20 of 2000 pixels"),
        ("abc", "list of polygons or run lengths, got abc"),
    ],
)
def test_bad_outlines(outline, message):
    with pytest.raises(ValueError, match=rf"object 1 of 'x\.jpg': .*{message}"):
        decode_masks([SQUARE, outline], 50, 40, "x.jpg")
