import numpy as np
import pytest
import torch
from PIL import Image

from conmim_lightning.visualization.inputs import as_shown, evenly_spaced, patch_of, read_inputs


def test_evenly_spaced_images_and_those_that_cannot_be_read(encoder, source):
    inputs, broken = read_inputs(encoder, source, 3)
    assert (inputs.names, broken) == (["0.png", "2.png", "4.png"], [])
    inputs, broken = read_inputs(encoder, source, 50)
    assert inputs.images.shape == (5, 3, 32, 32)
    assert len(broken) == 1
    assert broken[0].startswith("5.png: ")


def test_shown_images_are_those_of_the_file(encoder, source):
    inputs, _ = read_inputs(encoder, source, 1)
    pixels = np.asarray(Image.open(source.path(0)).crop((0, 2, 36, 38)).resize((32, 32), Image.Resampling.BICUBIC))
    assert np.abs(inputs.shown[0].numpy() * 255 - pixels).mean() < 3
    assert as_shown(encoder, inputs.images[0]).shape == (32, 32, 3)


def test_mistakes(encoder, source, tmp_path):
    with pytest.raises(ValueError, match="pictures must be at least 1, got 0"):
        read_inputs(encoder, source, 0)
    for number in range(5):
        source.path(number).write_bytes(b"no")
    with pytest.raises(ValueError, match="none of the images can be read"):
        read_inputs(encoder, source, 5)


def test_patches(encoder):
    assert patch_of(encoder, None) == (2, 2)
    assert patch_of(encoder, [0, 3]) == (0, 3)
    for patch in ([4, 0], [0, -1], [1]):
        with pytest.raises(ValueError, match=r"patch must be \[row, column\] within 4 x 4 patches"):
            patch_of(encoder, patch)
    assert torch.is_tensor(as_shown(encoder, torch.zeros(1, 4, 4)))


def test_indices_are_evenly_spaced():
    assert evenly_spaced(9, 3) == [0, 3, 6]
    assert evenly_spaced(2, 5) == [0, 1]
