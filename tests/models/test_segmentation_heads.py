"""Shapes and sizes of heads and pyramids, and their layers recomputed by hand."""

from functools import partial

import pytest
import torch
from torch.nn import functional as F

from conmim_lightning.models.segmentation_heads import DptHead, FcnHead, LinearHead, UperHead


def maps(width: int = 16, side: int = 6, batch: int = 2) -> list[torch.Tensor]:
    return [torch.randn(batch, width, side, side) for _ in range(4)]


def count(module: torch.nn.Module) -> int:
    return sum(parameter.numel() for parameter in module.parameters())


def test_upernet_is_that_of_mmsegmentation():
    """Its forward pass, recomputed from the layers."""
    torch.manual_seed(0)
    head, inputs = UperHead(16, 5, channels=8).eval(), maps()
    levels = head.pyramid(inputs)
    pools = [F.interpolate(pool(levels[3]), size=(3, 3), mode="bilinear") for pool in head.pools]
    top = head.bottleneck(torch.cat([levels[3], *pools], 1))
    one = [head.laterals[number](levels[number]) for number in range(3)]
    p3 = one[2] + F.interpolate(top, size=(6, 6), mode="bilinear")
    p2 = one[1] + F.interpolate(p3, size=(12, 12), mode="bilinear")
    p1 = one[0] + F.interpolate(p2, size=(24, 24), mode="bilinear")
    smooth = [head.smooth[number](level) for number, level in enumerate((p1, p2, p3))]
    large = [F.interpolate(level, size=(24, 24), mode="bilinear") for level in (*smooth[1:], top)]
    torch.testing.assert_close(head(inputs), head.classify(head.fuse(torch.cat([smooth[0], *large], 1))))


def test_size_of_upernet_is_that_of_its_layers():
    """Counted by hand: convolutions without bias, two numbers per channel of batch norm, biases without a norm."""
    d = 768
    deconvolutions = 3 * (d * d * 4 + d) + 2 * d
    pools = 4 * (d * d + 2 * d)
    others = (5 * d * d * 9 + 2 * d) + 3 * (d * d + 2 * d) + 3 * (d * d * 9 + 2 * d) + (4 * d * d * 9 + 2 * d)
    assert count(UperHead(d, 150)) == deconvolutions + pools + others + 150 * d + 150
    assert count(FcnHead(d, 150)) == d * 256 * 9 + 512 + 150 * 256 + 150


@pytest.mark.parametrize(
    ("head", "side"),
    [(UperHead, 24), (LinearHead, 6), (partial(DptHead, channels=8, intermediate=(8, 8, 8, 8)), 6 * 16)],
)
def test_heads_score_every_pixel(head, side):
    module = head(16, 5)
    scores = module(maps())
    assert scores.shape[:2] == (2, 5)
    assert scores.shape[2:] == (side, side)
    assert module(maps(side=5)).shape[2:] == (side // 6 * 5, side // 6 * 5)
    scores.sum().backward()
    assert not [name for name, parameter in module.named_parameters() if parameter.grad is None]
