"""Heads that convert feature maps of a vision Transformer to class scores."""

from collections.abc import Sequence
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from conmim_lightning.models.feature_pyramids import NUM_LEVELS, Feature2Pyramid, group_norm

Norm = Literal["batch", "group"]
NORMS = {"batch": nn.BatchNorm2d, "group": group_norm}
"""Norms of convolutions; official: batch norm over all devices. Group norm is independent of other images."""


class UperHead(nn.Module):
    """UPerNet (arXiv 1807.10221) on four maps of equal size.

    official for BEiT on ADE20K: as wide as the Transformer, pooling to 1, 2, 3 and 6 cells, dropout of whole channels
    before the last layer only.

    Shapes: B images, D width, h x w patches, K classes.

    Args:
        width: channels of the maps, D.
        num_classes: K.
        channels: channels of the head; null for D.
        pool_scales: cells per side to which the coarsest map is pooled.
        dropout: rate of dropout of whole channels before the last layer.
        norm: "batch", or "group" (32 groups), which allows batches of a single image.

    Raises:
        ValueError: the norm is unknown.
    """

    num_maps = NUM_LEVELS

    def __init__(
        self,
        width: int,
        num_classes: int,
        *,
        channels: int | None = None,
        pool_scales: Sequence[int] = (1, 2, 3, 6),
        dropout: float = 0.1,
        norm: Norm = "batch",
    ) -> None:
        super().__init__()
        if norm not in NORMS:
            raise ValueError(f"norm must be one of {list(NORMS)}, got {norm!r}")
        self.norm: Norm = norm
        channels = width if channels is None else channels
        self.pyramid = Feature2Pyramid(width, norm=NORMS[norm])
        self.pools = nn.ModuleList(
            nn.Sequential(nn.AdaptiveAvgPool2d(cells), _conv_norm(width, channels, 1, norm)) for cells in pool_scales
        )
        self.bottleneck = _conv_norm(width + len(pool_scales) * channels, channels, 3, norm)
        self.laterals = nn.ModuleList(_conv_norm(width, channels, 1, norm) for _ in range(NUM_LEVELS - 1))
        self.smooth = nn.ModuleList(_conv_norm(channels, channels, 3, norm) for _ in range(NUM_LEVELS - 1))
        self.fuse = _conv_norm(NUM_LEVELS * channels, channels, 3, norm)
        self.classify = nn.Sequential(nn.Dropout2d(dropout), nn.Conv2d(channels, num_classes, 1))
        _init_last(self.classify[-1])

    def forward(self, maps: Sequence[Tensor]) -> Tensor:
        """Map four (B, D, h, w) maps to (B, K, 4h, 4w) scores."""
        levels = self.pyramid(maps)
        coarsest = levels[-1]
        pooled = [_resize(pool(coarsest), coarsest) for pool in self.pools]
        outputs = [lateral(level) for lateral, level in zip(self.laterals, levels[:-1], strict=True)]
        outputs.append(self.bottleneck(torch.cat([coarsest, *pooled], 1)))
        for index in range(NUM_LEVELS - 1, 0, -1):
            outputs[index - 1] = outputs[index - 1] + _resize(outputs[index], outputs[index - 1])
        smoothed = [layer(level) for layer, level in zip(self.smooth, outputs[:-1], strict=True)]
        fused = [smoothed[0], *(_resize(level, smoothed[0]) for level in (*smoothed[1:], outputs[-1]))]
        return self.classify(self.fuse(torch.cat(fused, 1)))


class FcnHead(nn.Module):
    """A convolution and a classifier on one map: the auxiliary head of the recipe.

    Args:
        width: channels of the map.
        num_classes: K.
        channels: channels of the convolution.
        dropout: rate of dropout of whole channels before the last layer.
        norm: see ``UperHead``.
    """

    def __init__(
        self, width: int, num_classes: int, *, channels: int = 256, dropout: float = 0.1, norm: Norm = "batch"
    ) -> None:
        super().__init__()
        self.layer = _conv_norm(width, channels, 3, norm)
        self.classify = nn.Sequential(nn.Dropout2d(dropout), nn.Conv2d(channels, num_classes, 1))
        _init_last(self.classify[-1])

    def forward(self, features: Tensor) -> Tensor:
        """Map one (B, D, h, w) map to (B, K, h, w) scores."""
        return self.classify(self.layer(features))


class LinearHead(nn.Module):
    """Linear classifier of each patch on the concatenated maps, after batch norm (as in DINOv2, arXiv 2304.07193).

    Args:
        width: channels of each map.
        num_classes: K.
        num_maps: number of maps.
    """

    def __init__(self, width: int, num_classes: int, *, num_maps: int = NUM_LEVELS) -> None:
        super().__init__()
        self.num_maps = num_maps
        self.norm = nn.BatchNorm2d(num_maps * width)
        self.classify = nn.Conv2d(num_maps * width, num_classes, 1)
        _init_last(self.classify)

    def forward(self, maps: Sequence[Tensor]) -> Tensor:
        """Map (B, D, h, w) maps to (B, K, h, w) scores."""
        return self.classify(self.norm(torch.cat(list(maps), 1)))


class DptHead(nn.Module):
    """Head of DPT (arXiv 2103.13413) from segmentation_models_pytorch, without the class token.

    Args:
        width: channels of the maps.
        num_classes: K.
        intermediate: channels of the four levels, the finest first.
        channels: channels of the fused maps.

    Raises:
        ValueError: segmentation_models_pytorch is not installed.
    """

    num_maps = NUM_LEVELS
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
        self.decoder = DPTDecoder(
            encoder_out_channels=[width] * NUM_LEVELS,
            encoder_output_strides=[_GRID_STRIDE] * NUM_LEVELS,
            encoder_has_prefix_tokens=False,
            readout="ignore",
            intermediate_channels=list(intermediate),
            fusion_channels=channels,
        )
        self.classify = DPTSegmentationHead(channels, num_classes)

    def forward(self, maps: Sequence[Tensor]) -> Tensor:
        """Map four (B, D, h, w) maps to (B, K, 16h, 16w) scores."""
        height, width = maps[0].shape[-2:]
        even = [F.pad(level, (0, width % 2, 0, height % 2), mode="replicate") for level in maps]
        scores = self.classify(self.decoder(even, [None] * NUM_LEVELS))
        return scores[..., : height * _GRID_STRIDE, : width * _GRID_STRIDE]


_GRID_STRIDE = 16  # for any patch size, since levels are 4, 2, 1 and 1/2 times the grid


def _conv_norm(width: int, out: int, kernel: int, norm: Norm) -> nn.Sequential:
    """Return convolution, norm, ReLU, with Kaiming initialisation as in mmsegmentation."""
    convolution = nn.Conv2d(width, out, kernel, padding=kernel // 2, bias=False)
    nn.init.kaiming_normal_(convolution.weight, nonlinearity="relu")
    return nn.Sequential(convolution, NORMS[norm](out), nn.ReLU(inplace=True))


def _init_last(layer: nn.Module) -> None:
    """Initialise the classifier; official: standard deviation .01."""
    nn.init.normal_(layer.get_parameter("weight"), std=0.01)
    nn.init.zeros_(layer.get_parameter("bias"))


def _resize(features: Tensor, like: Tensor) -> Tensor:
    return F.interpolate(features, size=like.shape[-2:], mode="bilinear", align_corners=False)
