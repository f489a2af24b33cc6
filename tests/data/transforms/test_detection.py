"""Images, boxes and masks are transformed together."""

import pytest
import torch

from conmim_lightning.batches import Objects
from conmim_lightning.data.transforms.detection import FitSquare, ScaleJitter, boxes_of


def seeded(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def scene(masks: bool = True):
    """Two bright rectangles in a dark image of 60 x 90, and a crowd."""
    boxes = torch.tensor([[10.0, 8.0, 40.0, 30.0], [50.0, 20.0, 80.0, 56.0], [0.0, 0.0, 90.0, 5.0]])
    image = torch.zeros(3, 60, 90, dtype=torch.uint8)
    shapes = torch.zeros(3, 60, 90, dtype=torch.bool)
    for mask, (left, top, right, bottom) in zip(shapes, boxes.int().tolist(), strict=True):
        mask[top:bottom, left:right] = True
    image[0, shapes[0]], image[1, shapes[1]] = 200, 200
    crowd = torch.tensor([False, False, True])
    given = shapes if masks else shapes[:0]
    return image, Objects(boxes, torch.tensor([4, 2, 1]), given, crowd, torch.tensor([660.0, 1080.0, 450.0]))


@pytest.mark.parametrize("masks", [True, False])
def test_image_and_objects_are_transformed_together(masks):
    jitter, count = ScaleJitter(size=64, mean=[0.0] * 3, scale=(0.5, 2.0)), 0
    for seed in range(40):
        pixels, size, objects = jitter(*scene(masks), seeded(seed))
        assert pixels.shape == (3, 64, 64)
        height, width = size.tolist()
        assert not pixels[:, height:].any()
        assert not pixels[:, :, width:].any()
        assert 1 not in objects.labels.tolist()  # the crowd
        for index, label in enumerate(objects.labels.tolist()):
            bright = pixels[0 if label == 4 else 1] > 100
            left, top, right, bottom = objects.boxes[index].round().int().tolist()
            assert 0 <= left < right <= width
            assert 0 <= top < bottom <= height
            assert bright[top:bottom, left:right].float().mean() > 0.8
            assert bright.sum() < 1.3 * (right - left + 1) * (bottom - top + 1)
            if masks:
                assert (objects.masks[index] == bright).float().mean() > 0.98
            count += 1
    assert count > 40


def test_scales_are_those_of_the_recipe():
    """From a tenth to twice the size that fits exactly."""
    image = torch.zeros(3, 100, 50, dtype=torch.uint8)
    empty = Objects(
        torch.zeros(0, 4), torch.zeros(0, dtype=torch.long), torch.zeros(0, 100, 50, dtype=torch.bool),
        torch.zeros(0, dtype=torch.bool), torch.zeros(0),
    )  # fmt: skip
    jitter = ScaleJitter(size=200, mean=[0.5] * 3)
    sizes = [jitter(image, empty, seeded(seed))[1].tolist() for seed in range(200)]
    heights = [height for height, _ in sizes]
    assert min(heights) < 40
    assert sum(height == 200 for height in heights) / 200 == pytest.approx(10 / 19, abs=0.1)
    assert all(width <= 200 for _, width in sizes)
    assert jitter(image, empty, seeded(0))[2].masks.shape == (0, 200, 200)


def test_exactly_the_visible_objects_remain():
    jitter = ScaleJitter(size=32, mean=[0.0] * 3, scale=(3.0, 3.0), flip=0)
    for seed in range(30):
        pixels, _, objects = jitter(*scene(), seeded(seed))
        labels = set(objects.labels.tolist())
        for label, channel in ((4, 0), (2, 1)):
            bright = int((pixels[channel] > 150).sum())
            if bright > 40:
                assert label in labels
            if not pixels[channel].any():
                assert label not in labels


def test_boxes_of_masks_by_hand():
    masks = torch.zeros(3, 5, 6, dtype=torch.bool)
    masks[0, 1, 2] = True
    masks[1, 0:4, 3:6] = True
    assert boxes_of(masks).tolist() == [[2, 1, 3, 2], [3, 0, 6, 4], [0, 0, 0, 0]]


def test_fit_square():
    pixels, size = FitSquare(size=45, mean=[0.2] * 3)(scene()[0])
    assert pixels.shape == (3, 45, 45)
    assert size.tolist() == [30, 45]
    assert pixels[:, 30:].unique().tolist() == [51]


@pytest.mark.parametrize("changes", [{"scale": (2.0, 0.1)}, {"size": 0}, {"flip": 2}])
def test_bad_numbers(changes):
    with pytest.raises(ValueError, match="size >= 1, scale"):
        ScaleJitter(**({"size": 8, "mean": [0.5]} | changes))
