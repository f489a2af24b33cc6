import numpy as np
import pytest
import torch
from conftest import beit
from PIL import Image

from conmim_lightning.data.sources.folder import FolderSource
from conmim_lightning.data.transforms.crop import CenterSquare
from conmim_lightning.inference.models import LoadedEncoder
from conmim_lightning.inference.preprocessing import Preprocessing


@pytest.fixture
def encoder():
    """A small model with random weights."""
    backbone = beit()
    for parameter in backbone.parameters():
        torch.nn.init.normal_(parameter, std=0.3)
    return LoadedEncoder(backbone, Preprocessing(CenterSquare(32), size=32, mean=[0.5] * 3, std=[0.25] * 3))


@pytest.fixture
def source(tmp_path):
    """Six images, of which the last is broken."""
    folder = tmp_path / "images"
    folder.mkdir()
    random = np.random.default_rng(0)
    for number in range(5):
        Image.fromarray(random.integers(0, 255, (40, 36, 3), np.uint8)).save(folder / f"{number}.png")
    (folder / "5.png").write_bytes(b"nothing")
    return FolderSource(folder)
