"""Feature pyramids from maps of one size."""

import math
from collections import OrderedDict
from collections.abc import Callable, Sequence

from timm.layers.norm import LayerNorm2d
from torch import Tensor, nn
from torchvision.ops import FeaturePyramidNetwork
from torchvision.ops.feature_pyramid_network import LastLevelMaxPool

NUM_LEVELS = 4


class Feature2Pyramid(nn.Module):
    """Maps of four blocks, rescaled to 4, 2, 1 and 1/2 times the grid, without change of width.

    official for BEiT's segmentation and MIMDet's detection (arXiv 2111.11429): two transposed convolutions, one,
    none, and 2 x 2 max pooling.

    Args:
        width: channels of the maps.
        norm: factory of the norm between the two transposed convolutions; takes the number of channels.
    """

    def __init__(self, width: int, norm: Callable[[int], nn.Module] = nn.BatchNorm2d) -> None:
        super().__init__()
        self.levels = nn.ModuleList(
            [
                nn.Sequential(_upsample(width, width), norm(width), nn.GELU(), _upsample(width, width)),
                _upsample(width, width),
                nn.Identity(),
                nn.MaxPool2d(2, ceil_mode=True),
            ]
        )

    def forward(self, maps: Sequence[Tensor]) -> list[Tensor]:
        """Rescale four (B, D, h, w) maps to four sizes, the largest first."""
        return [level(level_map) for level, level_map in zip(self.levels, maps, strict=True)]


class SimpleFeaturePyramid(nn.Module):
    """ViTDet's pyramid of only the last map (arXiv 2203.16527): scales 4, 2, 1, 1/2, then 1 x 1 and 3 x 3 convolutions.

    Args:
        width: channels of the map.
        out_channels: channels of each level.
    """

    num_maps = 1

    def __init__(self, width: int, *, out_channels: int = 256) -> None:
        super().__init__()
        half, quarter = width // 2, width // 4
        rescaled = [
            nn.Sequential(_upsample(width, half), LayerNorm2d(half), nn.GELU(), _upsample(half, quarter)),
            _upsample(width, half),
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
            for level, channels in zip(rescaled, widths, strict=True)
        )
        self.out_channels = out_channels
        self.coarsest = LastLevelMaxPool()

    def forward(self, maps: Sequence[Tensor]) -> dict[str, Tensor]:
        """Return levels "0" to "3" and "pool" of the last map, 4 to 1/4 times the grid."""
        outputs = [level(maps[-1]) for level in self.levels]
        levels, names = self.coarsest(outputs, outputs, [str(index) for index in range(NUM_LEVELS)])
        return OrderedDict(zip(names, levels, strict=True))


class MIMDetFPN(nn.Module):
    """``Feature2Pyramid`` of four blocks with a feature pyramid network on top, as in MIMDet's benchmark.

    Args:
        width: channels of the maps.
        out_channels: channels of each level.
    """

    num_maps = NUM_LEVELS

    def __init__(self, width: int, *, out_channels: int = 256) -> None:
        super().__init__()
        self.blocks = Feature2Pyramid(width, norm=group_norm)
        self.network = FeaturePyramidNetwork(
            [width] * NUM_LEVELS, out_channels, extra_blocks=LastLevelMaxPool(), norm_layer=nn.BatchNorm2d
        )
        self.out_channels = out_channels

    def forward(self, maps: Sequence[Tensor]) -> dict[str, Tensor]:
        """Return levels "0" to "3" and "pool" of four maps, 4 to 1/4 times the grid."""
        return self.network(OrderedDict((str(index), level) for index, level in enumerate(self.blocks(maps))))


def _upsample(width: int, out: int) -> nn.ConvTranspose2d:
    return nn.ConvTranspose2d(width, out, 2, stride=2)


def group_norm(width: int) -> nn.GroupNorm:
    """Return GroupNorm of 32 groups, or as many as divide half the width, so that no group has a single channel."""
    return nn.GroupNorm(math.gcd(32, width // 2), width)
