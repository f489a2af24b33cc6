import numpy as np
import pytest
import torch

from conmim_lightning.data.transforms.photometric import PhotometricDistortion


def seeded(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def test_probability_of_the_distortions():
    image = torch.randint(0, 255, (3, 24, 24), dtype=torch.uint8)
    changed = [not torch.equal(PhotometricDistortion()(image, seeded(seed)), image) for seed in range(300)]
    assert np.mean(changed) == pytest.approx(1 - 1 / 16, abs=0.05)


@pytest.mark.parametrize(
    "only",
    [{"brightness": 32}, {"contrast": (0.5, 1.5)}, {"saturation": (0.5, 1.5)}, {"hue": 36}],
    ids=lambda o: next(iter(o)),
)
def test_effect_of_each_distortion(only):
    """For a uniform colour: brightness adds, contrast multiplies, saturation and hue keep the largest value."""
    neutral = {"brightness": 0, "contrast": (1, 1), "saturation": (1, 1), "hue": 0}
    distortion = PhotometricDistortion(**(neutral | only))
    image = torch.tensor([200, 120, 60], dtype=torch.uint8).view(3, 1, 1).expand(3, 4, 4).contiguous()
    values = np.array([distortion(image, seeded(seed))[:, 0, 0].tolist() for seed in range(200)], float)
    untouched = np.abs(values - [200, 120, 60]).max(1) <= 2  # the conversion to HSV rounds
    assert untouched.mean() == pytest.approx(0.5, abs=0.12)
    rest = values[~untouched]
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
    assert all(torch.equal(neutral(image, seeded(seed)), image) for seed in range(20))
