"""Sliding windows, sizes that do not divide, flips: with functions whose result is known."""

import pytest
import torch

from conmim_lightning.models.sliding_window import SlidingWindowInference


def channels(images):
    """Scores of single pixels: the image itself."""
    return images


@pytest.mark.parametrize("stride", [None, 1, 3, 5, 8])
@pytest.mark.parametrize("size", [(8, 8), (9, 8), (8, 15), (13, 21), (3, 5), (5, 30)])
def test_a_function_of_single_pixels_does_not_depend_on_the_windows(size, stride):
    sizes = []

    def scores(images):
        sizes.append(images.shape[-2:])
        return images

    images = torch.randn(2, 3, *size)
    result = SlidingWindowInference(size=8, stride=stride)(scores, images, 4)
    torch.testing.assert_close(result, images.softmax(1))
    if stride is None:
        assert sizes == [tuple(-(-side // 4) * 4 for side in size)]
    else:
        assert set(sizes) == {(8, 8)}


def test_windows_are_those_of_the_recipe():
    """512 every 341 over 683 x 1024, as mmsegmentation counts them: 2 x 3 windows, the last ones moved back."""
    starts = []

    def scores(images):
        starts.append((int(images[0, 0, 0, 0]), int(images[0, 1, 0, 0])))
        return images

    rows, columns = torch.meshgrid(torch.arange(683.0), torch.arange(1024.0), indexing="ij")
    SlidingWindowInference(size=512, stride=341)(scores, torch.stack([rows, columns])[None])
    assert starts == [(0, 0), (0, 341), (0, 512), (171, 0), (171, 341), (171, 512)]


def test_overlapping_scores_are_averaged():
    numbers = iter((torch.tensor([0.0, 0.0]), torch.tensor([2.0, 0.0])))

    def scores(images):
        return next(numbers).view(1, 2, 1, 1).expand(1, 2, *images.shape[-2:])

    result = SlidingWindowInference(size=4, stride=2)(scores, torch.zeros(1, 1, 4, 6))
    expected = torch.tensor([0.0, 0.0, 1.0, 1.0, 2.0, 2.0])
    torch.testing.assert_close(result[0, 0, 0].logit(), expected)


def test_flipped_scores_are_flipped_back():
    images = torch.randn(1, 2, 8, 8)
    position = torch.linspace(0, 3, 8)

    def scores(pixels):
        return torch.stack([pixels[:, 0] * position, pixels[:, 1]], 1)

    result = SlidingWindowInference(size=8, flip=True)(scores, images)
    direct, flipped = scores(images).softmax(1), scores(images.flip(-1)).flip(-1).softmax(1)
    torch.testing.assert_close(result, (direct + flipped) / 2)


def test_sizes_of_the_recipe():
    inference = SlidingWindowInference(size=512, stride=341, shorter_side=512, longest_side=2048)
    assert inference.resized(683, 1024) == (512, 768)
    assert inference.resized(300, 3000) == (205, 2048)
    assert inference.resized(683, 1024, 0.5) == (256, 384)
    assert inference.resized(683, 1024, 1.75) == (896, 1343)


def test_several_scales_are_averaged():
    sizes = []

    def scores(images):
        sizes.append(tuple(images.shape[-2:]))
        return images.new_full((1, 2, *images.shape[-2:]), 0.0).index_fill(1, torch.tensor(0), float(len(sizes)))

    result = SlidingWindowInference(size=8, scales=[0.5, 1.0, 2.0])(scores, torch.zeros(1, 1, 8, 12), 4)
    assert sizes == [(4, 8), (8, 12), (16, 24)]
    expected = sum(1 / (1 + torch.e**-number) for number in (1, 2, 3)) / 3
    torch.testing.assert_close(result[0, 0], torch.full((8, 12), expected))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"size": 0}, "size must be at least 1, got 0"),
        ({"stride": 9}, "from 1 to size=8, got 9"),
        ({"stride": 0}, "got 0"),
        ({"scales": []}, r"got \[\]"),
        ({"shorter_side": 3000}, "got 3000 and 2048"),
    ],
)
def test_bad_numbers(arguments, message):
    with pytest.raises(ValueError, match=message):
        SlidingWindowInference(**({"size": 8} | arguments))
