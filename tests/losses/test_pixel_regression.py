import pytest
import torch
from torch.nn import functional as F

from conmim_lightning.losses.pixel_regression import PixelRegression


def patches(images):
    return F.unfold(images, 4, stride=4).transpose(1, 2)


def test_it_is_the_loss_of_simmim():
    """Written here on images, as in the paper: errors at hidden pixels by their number and by that of channels."""
    images, predicted = torch.randn(3, 3, 16, 16), torch.randn(3, 3, 16, 16)
    mask = torch.rand(3, 4, 4) < 0.6  # images hide different numbers of patches
    pixels = mask.repeat_interleave(4, 1).repeat_interleave(4, 2)[:, None]
    expected = ((images - predicted).abs() * pixels).sum() / pixels.sum() / 3
    loss = PixelRegression()(patches(predicted), patches(images), mask)
    torch.testing.assert_close(loss, expected)


def test_visible_patches_and_targets_receive_no_gradient():
    predicted, target = torch.randn(2, 4, 6, requires_grad=True), torch.randn(2, 4, 6, requires_grad=True)
    mask = torch.tensor([[True, False, False, True], [False, True, False, False]])
    PixelRegression()(predicted, target, mask).backward()
    assert target.grad is None
    assert ((predicted.grad != 0).any(-1) == mask).all()


def test_half_precision_is_computed_in_float32():
    predicted, target = torch.randn(2, 4, 6).bfloat16(), torch.randn(2, 4, 6)
    mask = torch.ones(2, 4, dtype=torch.bool)
    loss = PixelRegression()(predicted, target, mask)
    assert loss.dtype == torch.float32
    torch.testing.assert_close(loss, (predicted.float() - target).abs().mean())


def test_shapes_that_do_not_agree():
    with pytest.raises(ValueError, match="do not agree"):
        PixelRegression()(torch.zeros(2, 4, 6), torch.zeros(2, 4, 5), torch.ones(2, 4, dtype=torch.bool))
    with pytest.raises(ValueError, match="do not agree"):
        PixelRegression()(torch.zeros(2, 4, 6), torch.zeros(2, 4, 6), torch.ones(2, 5, dtype=torch.bool))
