"""Shapes and sizes of heads and pyramids, and their parts recomputed by hand."""

from functools import partial

import pytest
import torch
from torch.nn import functional as F

from conmim_lightning.models.backbones import beit
from conmim_lightning.models.pyramids import BenchmarkPyramid, BlockPyramid, SimplePyramid
from conmim_lightning.models.segmentation_heads import DptHead, FcnHead, LinearHead, UperHead
from conmim_lightning.models.segmenter import Segmenter


def maps(width: int = 16, side: int = 6, batch: int = 2) -> list[torch.Tensor]:
    return [torch.randn(batch, width, side, side) for _ in range(4)]


def count(module: torch.nn.Module) -> int:
    return sum(parameter.numel() for parameter in module.parameters())


def test_pyramid_has_four_sizes():
    assert [tuple(level.shape) for level in BlockPyramid(16)(maps())] == [
        (2, 16, 24, 24), (2, 16, 12, 12), (2, 16, 6, 6), (2, 16, 3, 3),
    ]  # fmt: skip
    assert BlockPyramid(16)(maps(side=5))[3].shape == (2, 16, 3, 3)


def test_upernet_is_that_of_mmsegmentation():
    """Its forward pass written out from the layers, as the paper draws it."""
    torch.manual_seed(0)
    head, given = UperHead(16, 5, channels=8).eval(), maps()
    levels = head.pyramid(given)
    pools = [F.interpolate(pool(levels[3]), size=(3, 3), mode="bilinear") for pool in head.pools]
    top = head.bottleneck(torch.cat([levels[3], *pools], 1))
    one = [head.laterals[number](levels[number]) for number in range(3)]
    p3 = one[2] + F.interpolate(top, size=(6, 6), mode="bilinear")
    p2 = one[1] + F.interpolate(p3, size=(12, 12), mode="bilinear")
    p1 = one[0] + F.interpolate(p2, size=(24, 24), mode="bilinear")
    smooth = [head.smooth[number](level) for number, level in enumerate((p1, p2, p3))]
    large = [F.interpolate(level, size=(24, 24), mode="bilinear") for level in (*smooth[1:], top)]
    torch.testing.assert_close(head(given), head.classify(head.fuse(torch.cat([smooth[0], *large], 1))))


def test_size_of_upernet_is_that_of_its_layers():
    """Counted by hand: convolutions without bias, two numbers a channel of batch norm, biases of what has no norm."""
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
    made = head(16, 5)
    scores = made(maps())
    assert scores.shape[:2] == (2, 5)
    assert scores.shape[2:] == (side, side)
    assert made(maps(side=5)).shape[2:] == (side // 6 * 5, side // 6 * 5)
    scores.sum().backward()
    assert not [name for name, parameter in made.named_parameters() if parameter.grad is None]


@pytest.mark.parametrize("norm", ["batch", "group"])
def test_segmenter(norm):
    backbone = beit(
        img_size=32, patch_size=8, embed_dim=16, depth=4, num_heads=2, num_classes=0, use_rel_pos_bias=True,
        use_abs_pos_emb=False,
    )  # fmt: skip
    model = Segmenter(
        backbone=backbone, num_classes=5, size=48, read=[0, 1, 2, 3], head=partial(UperHead, channels=8, norm=norm)
    )
    found = model(torch.randn(1 if norm == "group" else 2, 3, 48, 48))
    assert found.scores.shape[1:] == found.auxiliary.shape[1:] == (5, 48, 48)
    (found.scores.sum() + found.auxiliary.sum()).backward()
    assert not [name for name, parameter in model.named_parameters() if parameter.grad is None]
    assert model.eval()(torch.randn(1, 3, 40, 64)).auxiliary is None
    with pytest.raises(ValueError, match=r"takes 4 maps, read=\[1, 3\]"):
        Segmenter(backbone=beit(img_size=32, patch_size=8, embed_dim=16, depth=4, num_heads=2, use_rel_pos_bias=True),
                  num_classes=5, size=48, read=[1, 3], head=UperHead)  # fmt: skip


@pytest.mark.parametrize("pyramid", [SimplePyramid, BenchmarkPyramid])
def test_pyramids_of_detection(pyramid):
    levels = pyramid(16, out_channels=8)(maps())
    assert list(levels) == ["0", "1", "2", "3", "pool"]
    assert [tuple(level.shape[1:]) for level in levels.values()] == [(8, n, n) for n in (24, 12, 6, 3, 2)]
