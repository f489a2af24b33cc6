"""From maps of one size to a pyramid of sizes."""

import math
from collections import OrderedDict
from collections.abc import Callable, Sequence

from timm.layers.norm import LayerNorm2d
from torch import Tensor, nn
from torchvision.ops import FeaturePyramidNetwork
from torchvision.ops.feature_pyramid_network import LastLevelMaxPool

NUM_LEVELS = 4


class BlockPyramid(nn.Module):
    """Four maps of four blocks, 4x, 2x, 1x and 1/2x the size of the grid, each as wide as it was.

    official for BEiT's segmentation and MIMDet's detection (arXiv 2111.11429): two transposed convolutions, one,
    nothing, a maximum over 2 x 2.

    Args:
        width: channels.
        norm: between the two transposed convolutions; takes the number of channels.
    """

    def __init__(self, width: int, norm: Callable[[int], nn.Module] = nn.BatchNorm2d) -> None:
        super().__init__()
        self.levels = nn.ModuleList(
            [
                nn.Sequential(_twice(width, width), norm(width), nn.GELU(), _twice(width, width)),
                _twice(width, width),
                nn.Identity(),
                nn.MaxPool2d(2, ceil_mode=True),
            ]
        )

    def forward(self, maps: Sequence[Tensor]) -> list[Tensor]:
        """Four (B, D, h, w) to four sizes, the largest first."""
        return [level(found) for level, found in zip(self.levels, maps, strict=True)]


class SimplePyramid(nn.Module):
    """ViTDet's pyramid of the last map alone (arXiv 2203.16527): scaled 4, 2, 1 and 1/2 times, then 1 x 1 and 3 x 3.

    Args:
        width: channels of the map.
        out_channels: of each level.
    """

    wanted = 1

    def __init__(self, width: int, *, out_channels: int = 256) -> None:
        super().__init__()
        half, quarter = width // 2, width // 4
        scaled = [
            nn.Sequential(_twice(width, half), LayerNorm2d(half), nn.GELU(), _twice(half, quarter)),
            _twice(width, half),
            nn.Identity(),
            nn.MaxPool2d(2),
        ]
        widths = (quarter, half, width, width)
        self.levels = nn.ModuleList(
            nn.Sequential(
                level,
                nn.Conv2d(channels, out_channels, 1, bias=False),
                LayerNorm2d(out_channels),
                nn.Conv2d(out_channels, out_channels, 3, padding=1, bias=False),
                LayerNorm2d(out_channels),
            )
            for level, channels in zip(scaled, widths, strict=True)
        )
        self.out_channels = out_channels
        self.coarsest = LastLevelMaxPool()

    def forward(self, maps: Sequence[Tensor]) -> dict[str, Tensor]:
        """The last of the maps to levels "0" to "3" and "pool", 4x to 1/4x the grid."""
        found = [level(maps[-1]) for level in self.levels]
        levels, names = self.coarsest(found, found, [str(number) for number in range(NUM_LEVELS)])
        return OrderedDict(zip(names, levels, strict=True))


class BenchmarkPyramid(nn.Module):
    """The pyramid of four blocks and a feature pyramid network on top, as in MIMDet's benchmark.

    Args:
        width: channels of the maps.
        out_channels: of each level.
    """

    wanted = NUM_LEVELS

    def __init__(self, width: int, *, out_channels: int = 256) -> None:
        super().__init__()
        self.blocks = BlockPyramid(width, norm=group_norm)
        self.network = FeaturePyramidNetwork(
            [width] * NUM_LEVELS, out_channels, extra_blocks=LastLevelMaxPool(), norm_layer=nn.BatchNorm2d
        )
        self.out_channels = out_channels

    def forward(self, maps: Sequence[Tensor]) -> dict[str, Tensor]:
        """Four maps to levels "0" to "3" and "pool", 4x to 1/4x the grid."""
        return self.network(OrderedDict((str(number), found) for number, found in enumerate(self.blocks(maps))))


def _twice(width: int, out: int) -> nn.ConvTranspose2d:
    return nn.ConvTranspose2d(width, out, 2, stride=2)


def group_norm(width: int) -> nn.GroupNorm:
    """32 groups, or as many as divide half the width, so that none has a single channel."""
    return nn.GroupNorm(math.gcd(32, width // 2), width)
