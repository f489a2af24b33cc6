import numpy as np
import torch
from PIL import Image
from sklearn.datasets import load_sample_image

from conmim_lightning.data.images.pixels import DecodedImage, resized_region, to_tensor

PHOTOGRAPH = Image.fromarray(load_sample_image("flower.jpg"))


def test_pixels_keep_their_places():
    pixels = to_tensor(PHOTOGRAPH)
    assert pixels.shape == (3, PHOTOGRAPH.height, PHOTOGRAPH.width)
    assert np.array_equal(pixels.permute(1, 2, 0).numpy(), np.asarray(PHOTOGRAPH))
    assert to_tensor(PHOTOGRAPH.convert("L")).shape == (1, PHOTOGRAPH.height, PHOTOGRAPH.width)


def test_a_region_is_resized_as_pillow_does():
    """Within the tolerance that ``resized_region`` documents."""
    box = (40, 30, 340, 330)
    ours = resized_region(to_tensor(PHOTOGRAPH), box, 96)
    expected = to_tensor(PHOTOGRAPH.crop(box).resize((96, 96), Image.Resampling.BICUBIC))
    difference = (ours.int() - expected.int()).abs()
    assert ours.dtype == torch.uint8
    assert difference.max() <= 8
    assert (difference > 0).float().mean() < 0.05


def test_a_decoded_image():
    image = DecodedImage(to_tensor(PHOTOGRAPH))
    assert (image.width, image.height) == PHOTOGRAPH.size
    assert image.whole() is image.pixels
    assert torch.equal(image.region((0, 0, 100, 100), 100), image.pixels[:, :100, :100])
