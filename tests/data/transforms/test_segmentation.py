"""Image and map are transformed together, and crops have more than one class."""

import numpy as np
import pytest
import torch

from conmim_lightning.data.transforms.photometric import PhotometricDistortion
from conmim_lightning.data.transforms.segmentation import SegmentationTransform


def seeded(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def transform(**changes) -> SegmentationTransform:
    settings = {"size": 32, "shorter_side": 40, "longest_side": 160, "mean": [0.5] * 3}
    return SegmentationTransform(**(settings | changes))


def blocks(height: int = 48, width: int = 72, side: int = 12):
    """A map of blocks of classes and an image whose red value encodes the class."""
    rows, columns = torch.arange(height) // side, torch.arange(width) // side
    label = (rows[:, None] * 7 + columns[None, :]).to(torch.int16) % 20
    image = torch.stack([label * 12, torch.full_like(label, 40), torch.full_like(label, 90)]).to(torch.uint8)
    return image, label


def test_image_and_map_are_transformed_together():
    image, label = blocks()
    hits = 0
    for seed in range(20):
        pixels, classes = transform(max_fraction=1)(image, label, seeded(seed))
        assert pixels.shape == (3, 32, 32)
        assert classes.shape == (32, 32)
        inner = torch.zeros(32, 32, dtype=torch.bool)
        labelled = classes >= 0
        same = torch.ones_like(inner)
        for shift in (1, -1, 2, -2):  # away from the edges of blocks, which resizing mixes
            for axis in (0, 1):
                same &= classes == classes.roll(shift, axis)
        same[:2], same[-2:], same[:, :2], same[:, -2:] = False, False, False, False
        same &= labelled
        assert torch.equal(pixels[0][same].int(), classes[same].int() * 12)
        hits += int(same.sum())
    assert hits > 3000


def test_small_images_are_padded():
    image, label = blocks(16, 24, 4)
    pixels, classes = transform(shorter_side=16, longest_side=24, ratio=[1.0, 1.0], flip=0)(image, label, seeded(0))
    assert torch.equal(classes[:16, :24], label)
    assert (classes[16:] == -1).all()
    assert (classes[:, 24:] == -1).all()
    assert pixels[:, 16:].unique().tolist() == [128]


def test_no_class_fills_a_crop():
    """Three quarters of the image are one class; crops without the rest are tried again."""
    label = torch.zeros(100, 100, dtype=torch.int16)
    label[70:, 70:] = 1
    label[80:, 80:] = -1  # what has no class does not count
    image = torch.zeros(3, 100, 100, dtype=torch.uint8)
    settings = {"shorter_side": 100, "longest_side": 100, "ratio": [1.0, 1.0], "flip": 0}
    by_limit = {limit: [] for limit in (0.75, 1.0)}
    for limit, fractions in by_limit.items():
        for seed in range(150):
            classes = transform(max_fraction=limit, **settings)(image, label, seeded(seed))[1]
            counts = (classes[classes >= 0]).long().bincount(minlength=2)
            fractions.append(float(counts.max() / counts.sum()) if len(counts) else 1.0)
    fit = {limit: np.mean([value < 0.75 for value in fractions]) for limit, fractions in by_limit.items()}
    assert fit[0.75] > 3 * fit[1.0]
    assert fit[1.0] < 0.25


def test_sizes_of_the_recipe():
    """683 x 1024, ratio 1: the shorter side becomes 512, unless the longer one would pass 2048."""
    sizes = []

    class Spy(SegmentationTransform):
        def _corner(self, label, generator):
            sizes.append(tuple(label.shape))
            return super()._corner(label, generator)

    spy = Spy(size=64, mean=[0.5] * 3, ratio=[1.0, 1.0])
    for height, width in ((683, 1024), (100, 1000)):
        spy(torch.zeros(3, height, width, dtype=torch.uint8), torch.zeros(height, width, dtype=torch.int16), seeded(0))
    assert sizes == [(512, 768), (205, 2048)]


def test_the_same_generator_gives_the_same_sample():
    image, label = blocks()
    distorted = transform(photometric=PhotometricDistortion())
    one, other = (distorted(image, label, seeded(3)) for _ in range(2))
    assert torch.equal(one[0], other[0])
    assert torch.equal(one[1], other[1])
    assert not torch.equal(one[0], distorted(image, label, seeded(4))[0])


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"ratio": [2, 1]}, r"got \[2, 1\]"),
        ({"max_fraction": 0}, "got 0 and 0.5"),
        ({"shorter_side": 200}, "got 32, 200, 160"),
    ],
)
def test_bad_numbers(changes, message):
    with pytest.raises(ValueError, match=message):
        transform(**changes)
