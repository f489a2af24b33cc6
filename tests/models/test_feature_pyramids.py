import pytest
import torch

from conmim_lightning.models.feature_pyramids import Feature2Pyramid, MIMDetFPN, SimpleFeaturePyramid


def maps(width: int = 16, side: int = 6, batch: int = 2) -> list[torch.Tensor]:
    return [torch.randn(batch, width, side, side) for _ in range(4)]


def test_pyramid_has_four_sizes():
    assert [tuple(level.shape) for level in Feature2Pyramid(16)(maps())] == [
        (2, 16, 24, 24), (2, 16, 12, 12), (2, 16, 6, 6), (2, 16, 3, 3),
    ]  # fmt: skip
    assert Feature2Pyramid(16)(maps(side=5))[3].shape == (2, 16, 3, 3)


@pytest.mark.parametrize("pyramid", [SimpleFeaturePyramid, MIMDetFPN])
def test_pyramids_of_detection(pyramid):
    levels = pyramid(16, out_channels=8)(maps())
    assert list(levels) == ["0", "1", "2", "3", "pool"]
    assert [tuple(level.shape[1:]) for level in levels.values()] == [(8, n, n) for n in (24, 12, 6, 3, 2)]
