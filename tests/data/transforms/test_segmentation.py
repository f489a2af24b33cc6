"""Image and map must go the same way, and crops must hold more than one class."""

import numpy as np
import pytest
import torch
from PIL import Image

from conmim_lightning.data.transforms.photometric import PhotometricDistortion
from conmim_lightning.data.transforms.segmentation import SegmentationTransform, resized_map


def drawn(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def transform(**changes) -> SegmentationTransform:
    settings = {"size": 32, "shorter_side": 40, "longest_side": 160, "mean": [0.5] * 3}
    return SegmentationTransform(**(settings | changes))


def blocks(height: int = 48, width: int = 72, side: int = 12):
    """A map of blocks of classes and an image whose red value says the class."""
    rows, columns = torch.arange(height) // side, torch.arange(width) // side
    label = (rows[:, None] * 7 + columns[None, :]).to(torch.int16) % 20
    image = torch.stack([label * 12, torch.full_like(label, 40), torch.full_like(label, 90)]).to(torch.uint8)
    return image, label


def test_image_and_map_go_together():
    image, label = blocks()
    hits = 0
    for seed in range(20):
        pixels, classes = transform(max_share=1)(image, label, drawn(seed))
        assert pixels.shape == (3, 32, 32)
        assert classes.shape == (32, 32)
        inner = torch.zeros(32, 32, dtype=torch.bool)
        known = (classes >= 0).int()
        same = torch.ones_like(inner)
        for shift in (1, -1, 2, -2):  # away from the edges of blocks, which resizing mixes
            for axis in (0, 1):
                same &= classes == classes.roll(shift, axis)
        same[:2], same[-2:], same[:, :2], same[:, -2:] = False, False, False, False
        same &= known.bool()
        assert torch.equal(pixels[0][same].int(), classes[same].int() * 12)
        hits += int(same.sum())
    assert hits > 3000


def test_what_an_image_leaves_empty_is_padded():
    image, label = blocks(16, 24, 4)
    pixels, classes = transform(shorter_side=16, longest_side=24, ratio=[1.0, 1.0], flip=0)(image, label, drawn(0))
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
    shares = {share: [] for share in (0.75, 1.0)}
    for share, found in shares.items():
        for seed in range(150):
            classes = transform(max_share=share, **settings)(image, label, drawn(seed))[1]
            counts = (classes[classes >= 0]).long().bincount(minlength=2)
            found.append(float(counts.max() / counts.sum()) if len(counts) else 1.0)
    fit = {share: np.mean([value < 0.75 for value in found]) for share, found in shares.items()}
    assert fit[0.75] > 3 * fit[1.0]
    assert fit[1.0] < 0.25


def test_sizes_of_the_recipe():
    """683 x 1024, ratio 1: the shorter side becomes 512, unless the longer one would pass 2048."""
    sizes = []

    class Spy(SegmentationTransform):
        def _place(self, label, generator):
            sizes.append(tuple(label.shape))
            return super()._place(label, generator)

    spy = Spy(size=64, mean=[0.5] * 3, ratio=[1.0, 1.0])
    for height, width in ((683, 1024), (100, 1000)):
        spy(torch.zeros(3, height, width, dtype=torch.uint8), torch.zeros(height, width, dtype=torch.int16), drawn(0))
    assert sizes == [(512, 768), (205, 2048)]


def test_the_same_draw_gives_the_same_sample():
    image, label = blocks()
    made = transform(photometric=PhotometricDistortion())
    one, other = (made(image, label, drawn(3)) for _ in range(2))
    assert torch.equal(one[0], other[0])
    assert torch.equal(one[1], other[1])
    assert not torch.equal(one[0], made(image, label, drawn(4))[0])


def test_maps_are_resized_to_the_nearest():
    label = torch.arange(4).view(2, 2).to(torch.int16)
    assert resized_map(label, (4, 4)).tolist() == [[0, 0, 1, 1], [0, 0, 1, 1], [2, 2, 3, 3], [2, 2, 3, 3]]
    assert resized_map(label, (1, 1)).tolist() == [[3]]
    big = torch.randint(0, 100, (31, 17), dtype=torch.int16)
    pillow = Image.fromarray(big.numpy().astype(np.uint8)).resize((40, 13), Image.Resampling.NEAREST)
    assert np.array_equal(resized_map(big, (13, 40)).numpy(), np.asarray(pillow))


def test_each_distortion_has_its_share():
    image = torch.randint(0, 255, (3, 24, 24), dtype=torch.uint8)
    changed = [not torch.equal(PhotometricDistortion()(image, drawn(seed)), image) for seed in range(300)]
    assert np.mean(changed) == pytest.approx(1 - 1 / 16, abs=0.05)


@pytest.mark.parametrize(
    "only",
    [{"brightness": 32}, {"contrast": (0.5, 1.5)}, {"saturation": (0.5, 1.5)}, {"hue": 36}],
    ids=lambda o: next(iter(o)),
)
def test_each_distortion_changes_what_it_should(only):
    """Over uniform colours: brightness adds alike, contrast multiplies, saturation and hue keep the largest value."""
    neutral = {"brightness": 0, "contrast": (1, 1), "saturation": (1, 1), "hue": 0}
    made = PhotometricDistortion(**(neutral | only))
    image = torch.tensor([200, 120, 60], dtype=torch.uint8).view(3, 1, 1).expand(3, 4, 4).contiguous()
    found = np.array([made(image, drawn(seed))[:, 0, 0].tolist() for seed in range(200)], float)
    untouched = np.abs(found - [200, 120, 60]).max(1) <= 2  # the way over HSV rounds
    assert untouched.mean() == pytest.approx(0.5, abs=0.12)
    rest = found[~untouched]
    if "brightness" in only:
        assert np.ptp(rest - [200, 120, 60], axis=1).max() <= 1
        assert np.abs(rest[:, 1] - 120).max() <= 32
    elif "contrast" in only:
        assert np.abs(rest[:, 2] / 60 - rest[:, 1] / 120).max() < 0.02
        assert 0.49 < (rest[:, 2] / 60).min() < 0.6
    else:
        assert np.abs(rest.max(1) - 200).max() <= 2
    if "hue" in only:
        assert np.abs(rest.min(1) - 60).max() <= 3
    if "saturation" in only:
        factor = (1 - rest.min(1) / 200) / (1 - 60 / 200)
        assert 0.49 < factor.min() < 0.6
        assert factor.max() > 1.3


def test_grey_images_keep_saturation_and_hue():
    image = torch.full((1, 4, 4), 100, dtype=torch.uint8)
    neutral = PhotometricDistortion(brightness=0, contrast=(1, 1))
    assert all(torch.equal(neutral(image, drawn(seed)), image) for seed in range(20))


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"ratio": [2, 1]}, r"got \[2, 1\]"),
        ({"max_share": 0}, "got 0 and 0.5"),
        ({"shorter_side": 200}, "got 32, 200, 160"),
    ],
)
def test_bad_numbers(changes, told):
    with pytest.raises(ValueError, match=told):
        transform(**changes)
