from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from conmim_lightning.data.sources.folder import FolderSource
from conmim_lightning.data.synthetic.photos import write_photos
from conmim_lightning.profiling.data.decoders import decoders


@pytest.fixture(scope="module")
def photo(tmp_path_factory) -> Path:
    root = tmp_path_factory.mktemp("photos")
    write_photos(root, count=1)
    return FolderSource(root / "folder").path(0)


def test_decoders_agree(photo: Path):
    content = photo.read_bytes()
    with Image.open(photo) as image:
        expected = np.asarray(image).astype(int)
    assert {"Pillow", "simplejpeg"} <= set(decoders())
    for name, decode in decoders().items():
        pixels = np.asarray(decode(content)).astype(int)
        pixels = pixels if pixels.shape == expected.shape else pixels.transpose(1, 2, 0)
        assert np.abs(pixels - expected).max() <= 1, name
