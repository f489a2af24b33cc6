import numpy as np
import pytest
import torch
from PIL import Image
from torchvision.transforms import functional as tv

from conmim_lightning.data.crop import RandomResizedCrop, centre_square
from conmim_lightning.randomness import generator


def test_boxes_keep_to_scale_and_ratio():
    crop = RandomResizedCrop(32, scale=(0.2, 0.6), ratio=(0.75, 4 / 3))
    shares, ratios = [], []
    for index in range(2000):
        left, top, right, bottom = crop.box(200, 150, generator(0, 0, index))
        assert 0 <= left < right <= 200
        assert 0 <= top < bottom <= 150
        shares.append((right - left) * (bottom - top) / 30_000)
        ratios.append((right - left) / (bottom - top))
    assert 0.19 < min(shares) < 0.23
    assert 0.57 < max(shares) < 0.61
    assert 0.73 < min(ratios) < 0.78
    assert 1.29 < max(ratios) < 1.36


def test_every_place_occurs():
    crop = RandomResizedCrop(8, scale=(0.09, 0.09), ratio=(1, 1))
    covered = np.zeros((50, 50), bool)
    for index in range(3000):
        left, top, right, bottom = crop.box(50, 50, generator(0, 0, index))
        covered[top:bottom, left:right] = True
    assert covered.all()


def test_narrow_images_get_the_largest_allowed_part():
    left, top, right, bottom = RandomResizedCrop(8).box(300, 10, generator(0, 0, 0))
    assert (top, bottom) == (0, 10)
    assert right - left == 13
    assert left == 143


def test_crop_equals_torchvision_on_the_same_box():
    image = Image.fromarray(np.random.default_rng(0).integers(0, 256, (60, 80, 3), dtype=np.uint8))
    crop = RandomResizedCrop(32)
    for index in range(4):
        left, top, right, bottom = crop.box(80, 60, generator(0, 0, index))
        wanted = tv.resized_crop(image, top, left, bottom - top, right - left, [32, 32], tv.InterpolationMode.BICUBIC)
        flipped = tv.hflip(wanted)
        assert any(np.array_equal(crop(image, generator(0, 0, index)), other) for other in (wanted, flipped))


def test_half_are_flipped():
    ramp = Image.fromarray(np.tile(np.arange(64, dtype=np.uint8), (64, 1)))
    crop = RandomResizedCrop(16)
    flipped = [
        np.asarray(crop(ramp, generator(0, 0, i)))[0, 0] > np.asarray(crop(ramp, generator(0, 0, i)))[0, -1]
        for i in range(400)
    ]
    assert 0.43 < np.mean(flipped) < 0.57


def test_centre_square():
    image = Image.fromarray(np.arange(12, dtype=np.uint8).reshape(2, 6))
    assert np.asarray(centre_square(image, 2, Image.Resampling.NEAREST)).tolist() == [[2, 3], [8, 9]]


@pytest.mark.parametrize(
    ("arguments", "told"),
    [({"size": 0}, "got 0"), ({"size": 8, "scale": (0, 1)}, "scale"), ({"size": 8, "ratio": (2, 1)}, "ratio")],
)
def test_bad_arguments(arguments, told):
    with pytest.raises(ValueError, match=told):
        RandomResizedCrop(**arguments)


def test_the_generator_is_used_up_alike_for_any_image():
    after = []
    for size in ((300, 10), (64, 64)):
        random = generator(0, 0, 0)
        RandomResizedCrop(8)(Image.new("RGB", size), random)
        after.append(torch.rand(1, generator=random).item())
    assert after[0] == after[1]
