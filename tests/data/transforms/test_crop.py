import numpy as np
import pytest
import torch
from PIL import Image
from sklearn.datasets import load_sample_image
from torchvision.transforms import functional as tv

from conmim_lightning.data.images.pixels import DecodedImage, to_tensor
from conmim_lightning.data.transforms.crop import CenterSquare, RandomResizedCrop, center_box
from conmim_lightning.rng import generator


def test_boxes_keep_to_scale_and_ratio():
    crop = RandomResizedCrop(32, scale=(0.2, 0.6), ratio=(0.75, 4 / 3))
    fractions, ratios = [], []
    for index in range(2000):
        left, top, right, bottom = crop.box(200, 150, generator(0, 0, index))
        assert 0 <= left < right <= 200
        assert 0 <= top < bottom <= 150
        fractions.append((right - left) * (bottom - top) / 30_000)
        ratios.append((right - left) / (bottom - top))
    assert 0.19 < min(fractions) < 0.23
    assert 0.57 < max(fractions) < 0.61
    assert 0.73 < min(ratios) < 0.78
    assert 1.29 < max(ratios) < 1.36


def test_every_position_occurs():
    crop = RandomResizedCrop(8, scale=(0.09, 0.09), ratio=(1, 1))
    covered = np.zeros((50, 50), bool)
    for index in range(3000):
        left, top, right, bottom = crop.box(50, 50, generator(0, 0, index))
        covered[top:bottom, left:right] = True
    assert covered.all()


def test_narrow_images_have_the_largest_allowed_crop():
    left, top, right, bottom = RandomResizedCrop(8).box(300, 10, generator(0, 0, 0))
    assert (top, bottom) == (0, 10)
    assert right - left == 13
    assert left == 143


def test_crop_equals_torchvision_on_the_same_box():
    image = Image.fromarray(load_sample_image("china.jpg")).resize((320, 214))
    crop, differences = RandomResizedCrop(64), []
    for index in range(20):
        left, top, right, bottom = crop.box(320, 214, generator(0, 0, index))
        wanted = tv.resized_crop(image, top, left, bottom - top, right - left, [64, 64], tv.InterpolationMode.BICUBIC)
        pixels = crop(DecodedImage(to_tensor(image)), generator(0, 0, index)).int()
        both = [(pixels - to_tensor(other).int()).abs() for other in (wanted, tv.hflip(wanted))]
        differences.append(min(both, key=lambda difference: difference.sum()))
    difference = torch.stack(differences).float()
    assert difference.mean() < 0.05  # see resized_region for why it is not 0
    assert (difference > 1).float().mean() < 0.001
    assert difference.max() <= 8


def test_half_are_flipped():
    ramp = DecodedImage(torch.arange(64, dtype=torch.uint8).expand(1, 64, 64))
    crops = [RandomResizedCrop(16)(ramp, generator(0, 0, index)) for index in range(400)]
    assert 0.43 < np.mean([bool(crop[0, 0, 0] > crop[0, 0, -1]) for crop in crops]) < 0.57


def test_center_box():
    assert center_box(6, 2) == (2, 0, 4, 2)
    assert center_box(3, 8) == (0, 2, 3, 5)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [({"size": 0}, "got 0"), ({"size": 8, "scale": (0, 1)}, "scale"), ({"size": 8, "ratio": (2, 1)}, "ratio")],
)
def test_bad_arguments(arguments, message):
    with pytest.raises(ValueError, match=message):
        RandomResizedCrop(**arguments)


def test_every_image_takes_equally_many_random_numbers():
    after = []
    for size in ((300, 10), (64, 64)):
        random = generator(0, 0, 0)
        RandomResizedCrop(8)(DecodedImage(torch.zeros(3, *size, dtype=torch.uint8)), random)
        after.append(torch.rand(1, generator=random).item())
    assert after[0] == after[1]


@pytest.mark.parametrize(("flip", "fraction"), [(0.0, 0.0), (1.0, 1.0), (0.5, 0.5)])
def test_flips_have_their_probability(flip, fraction):
    """Visible on a ramp from left to right; everything else is sampled equally."""
    ramp = DecodedImage(torch.arange(64, dtype=torch.uint8).expand(3, 64, 64).contiguous())
    crops = [RandomResizedCrop(16, flip=flip)(ramp, generator(0, 0, index)).int() for index in range(200)]
    flipped = [crop[0, 0, 0] > crop[0, 0, -1] for crop in crops]
    assert abs(sum(map(bool, flipped)) / 200 - fraction) < 0.1
    unflipped = [RandomResizedCrop(16, flip=0.0)(ramp, generator(0, 0, index)).int() for index in range(200)]
    assert all(
        torch.equal(crop.flip(-1) if flip else crop, other)
        for crop, flip, other in zip(crops, flipped, unflipped, strict=True)
    )


def test_a_flip_is_a_probability():
    with pytest.raises(ValueError, match="flip must be a probability from 0 to 1, got 2"):
        RandomResizedCrop(16, flip=2)


def test_the_central_square_of_an_image_and_its_class_map():
    image = DecodedImage(torch.arange(4 * 8, dtype=torch.uint8).view(1, 4, 8))
    square = CenterSquare(4)
    assert torch.equal(square(image), image.pixels[..., 2:6])
    label = torch.arange(4 * 8).view(4, 8)
    assert torch.equal(square.class_map(label), label[:, 2:6])
    assert torch.equal(CenterSquare(2).class_map(label), label[1::2, 3:7:2])
