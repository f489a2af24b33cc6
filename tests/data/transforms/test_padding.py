import torch

from conmim_lightning.data.transforms.padding import mean_color, pad_to_square


def test_the_mean_in_grey_levels():
    assert mean_color([0.0, 0.485, 1.2]) == [0, 124, 255]


def test_padding_is_at_the_bottom_and_right():
    pixels = torch.arange(12, dtype=torch.uint8).view(2, 2, 3)
    padded = pad_to_square(pixels, 4, [100, 200])
    assert torch.equal(padded[:, :2, :3], pixels)
    assert padded[0, 2:].unique().tolist() == padded[0, :, 3].unique().tolist() == [100]
    assert padded[1, 2:].unique().tolist() == [200]
    assert torch.equal(pad_to_square(padded, 4, [0, 0]), padded), "a square is returned as it is"
