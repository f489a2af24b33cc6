"""What turns maps of a vision Transformer into scores for every pixel."""

from collections.abc import Sequence
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from conmim_lightning.models.pyramids import NUM_LEVELS, BlockPyramid, group_norm

Norm = Literal["batch", "group"]
NORMS = {"batch": nn.BatchNorm2d, "group": group_norm}
"""Norms of convolutions; official: batch norm over all devices. Groups do without other images."""


class UperHead(nn.Module):
    """UPerNet (arXiv 1807.10221) on four maps of one size.

    official for BEiT on ADE20K: as wide as the Transformer, pooled to 1, 2, 3 and 6 cells, no dropout but of whole
    channels before the last layer.

    Shapes: B images, D width, h x w patches, K classes.

    Args:
        width: D, of the maps.
        num_classes: K.
        channels: of the head; null for D.
        pooled: cells a side that the coarsest map is pooled to.
        dropout: of whole channels, before the last layer.
        norm: "batch" or "group" (of 32), which single images can be trained with.

    Raises:
        ValueError: the norm is unknown.
    """

    wanted = NUM_LEVELS

    def __init__(
        self,
        width: int,
        num_classes: int,
        *,
        channels: int | None = None,
        pooled: Sequence[int] = (1, 2, 3, 6),
        dropout: float = 0.1,
        norm: Norm = "batch",
    ) -> None:
        super().__init__()
        if norm not in NORMS:
            raise ValueError(f"norm must be one of {list(NORMS)}, got {norm!r}")
        self.norm: Norm = norm
        channels = width if channels is None else channels
        self.pyramid = BlockPyramid(width, norm=NORMS[norm])
        self.pools = nn.ModuleList(
            nn.Sequential(nn.AdaptiveAvgPool2d(cells), _layer(width, channels, 1, norm)) for cells in pooled
        )
        self.bottleneck = _layer(width + len(pooled) * channels, channels, 3, norm)
        self.laterals = nn.ModuleList(_layer(width, channels, 1, norm) for _ in range(NUM_LEVELS - 1))
        self.smooth = nn.ModuleList(_layer(channels, channels, 3, norm) for _ in range(NUM_LEVELS - 1))
        self.fuse = _layer(NUM_LEVELS * channels, channels, 3, norm)
        self.classify = nn.Sequential(nn.Dropout2d(dropout), nn.Conv2d(channels, num_classes, 1))
        _draw_last(self.classify[-1])

    def forward(self, maps: Sequence[Tensor]) -> Tensor:
        """Four (B, D, h, w) to (B, K, 4h, 4w) scores."""
        levels = self.pyramid(maps)
        coarsest = levels[-1]
        pooled = [_resized(pool(coarsest), coarsest) for pool in self.pools]
        found = [lateral(level) for lateral, level in zip(self.laterals, levels[:-1], strict=True)]
        found.append(self.bottleneck(torch.cat([coarsest, *pooled], 1)))
        for number in range(NUM_LEVELS - 1, 0, -1):
            found[number - 1] = found[number - 1] + _resized(found[number], found[number - 1])
        smoothed = [layer(level) for layer, level in zip(self.smooth, found[:-1], strict=True)]
        fused = [smoothed[0], *(_resized(level, smoothed[0]) for level in (*smoothed[1:], found[-1]))]
        return self.classify(self.fuse(torch.cat(fused, 1)))


class FcnHead(nn.Module):
    """A convolution and a classifier on one map: the auxiliary head of the recipe.

    Args:
        width: channels of the map.
        num_classes: K.
        channels: between.
        dropout: of whole channels, before the last layer.
        norm: as of ``UperHead``.
    """

    def __init__(
        self, width: int, num_classes: int, *, channels: int = 256, dropout: float = 0.1, norm: Norm = "batch"
    ) -> None:
        super().__init__()
        self.layer = _layer(width, channels, 3, norm)
        self.classify = nn.Sequential(nn.Dropout2d(dropout), nn.Conv2d(channels, num_classes, 1))
        _draw_last(self.classify[-1])

    def forward(self, found: Tensor) -> Tensor:
        """(B, D, h, w) to (B, K, h, w) scores."""
        return self.classify(self.layer(found))


class LinearHead(nn.Module):
    """A linear classifier of each patch, from all maps side by side after batch norm (as DINOv2's, arXiv 2304.07193).

    Args:
        width: channels of each map.
        num_classes: K.
        maps: how many are read.
    """

    def __init__(self, width: int, num_classes: int, *, maps: int = NUM_LEVELS) -> None:
        super().__init__()
        self.wanted = maps
        self.norm = nn.BatchNorm2d(maps * width)
        self.classify = nn.Conv2d(maps * width, num_classes, 1)
        _draw_last(self.classify)

    def forward(self, maps: Sequence[Tensor]) -> Tensor:
        """Maps (B, D, h, w) to (B, K, h, w) scores."""
        return self.classify(self.norm(torch.cat(list(maps), 1)))


class DptHead(nn.Module):
    """DPT (arXiv 2103.13413) as segmentation_models_pytorch has it, without the class token.

    Args:
        width: channels of the maps.
        num_classes: K.
        intermediate: channels of the four levels, the finest first.
        channels: of the fused maps.

    Raises:
        ValueError: segmentation_models_pytorch is missing.
    """

    wanted = NUM_LEVELS
    norm: Norm = "batch"

    def __init__(
        self,
        width: int,
        num_classes: int,
        *,
        intermediate: Sequence[int] = (256, 512, 1024, 1024),
        channels: int = 256,
    ) -> None:
        super().__init__()
        try:
            from segmentation_models_pytorch.decoders.dpt.decoder import DPTDecoder, DPTSegmentationHead
        except ImportError as error:
            raise ValueError("the DPT head needs segmentation_models_pytorch: pip install '.[dpt]'") from error
        self.decoder: Any = DPTDecoder(
            encoder_out_channels=[width] * NUM_LEVELS,
            encoder_output_strides=[_GRID_STRIDE] * NUM_LEVELS,
            encoder_has_prefix_tokens=False,
            readout="ignore",
            intermediate_channels=list(intermediate),
            fusion_channels=channels,
        )
        self.classify: Any = DPTSegmentationHead(channels, num_classes)

    def forward(self, maps: Sequence[Tensor]) -> Tensor:
        """Four (B, D, h, w) to (B, K, 16h, 16w) scores."""
        height, width = maps[0].shape[-2:]
        even = [F.pad(found, (0, width % 2, 0, height % 2), mode="replicate") for found in maps]
        scores = self.classify(self.decoder(even, [None] * NUM_LEVELS))
        return scores[..., : height * _GRID_STRIDE, : width * _GRID_STRIDE]


_GRID_STRIDE = 16  # whatever the patches' size: levels are 4, 2, 1 and 1/2 times the grid


def _layer(width: int, out: int, kernel: int, norm: Norm) -> nn.Sequential:
    """Convolution, norm, ReLU; drawn by Kaiming's rule as in mmsegmentation."""
    convolution = nn.Conv2d(width, out, kernel, padding=kernel // 2, bias=False)
    nn.init.kaiming_normal_(convolution.weight, nonlinearity="relu")
    return nn.Sequential(convolution, NORMS[norm](out), nn.ReLU(inplace=True))


def _draw_last(layer: Any) -> None:
    """official: a spread of .01 for the classifier."""
    nn.init.normal_(layer.weight, std=0.01)
    nn.init.zeros_(layer.bias)


def _resized(found: Tensor, like: Tensor) -> Tensor:
    return F.interpolate(found, size=like.shape[-2:], mode="bilinear", align_corners=False)
