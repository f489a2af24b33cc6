"""Semantic segmentation with a vision Transformer."""

from collections.abc import Callable, Sequence
from typing import NamedTuple, cast

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from conmim_lightning.models.backbones import Backbone
from conmim_lightning.models.dense_vit import DenseVit
from conmim_lightning.models.segmentation_heads import FcnHead


class SegmentationOutput(NamedTuple):
    """Output of a segmenter for a batch.

    Attributes:
        scores: (B, K, H, W), before the softmax.
        auxiliary: (B, K, H, W) scores of the auxiliary head; None outside training, or without such a head.
    """

    scores: Tensor
    auxiliary: Tensor | None


class Segmenter(nn.Module):
    """Backbone, head, and an auxiliary head on one of the maps; only training uses the auxiliary head.

    Shapes: B images, C channels, H x W pixels divisible by the patch size, K classes.

    Args:
        backbone: timm vision Transformer, see ``DenseVit``.
        num_classes: K, >= 2.
        size: pixels per side of the training images.
        out_indices: blocks whose maps the head uses; as many as it needs.
        head: factory that takes the backbone's width and K.
        auxiliary_map: index of the map for an auxiliary ``FcnHead`` (official: 2); null for no such head.
        global_attn_blocks: see ``DenseVit``.
        checkpointing: see ``DenseVit``.

    Raises:
        ValueError: the numbers do not fit one another.
    """

    def __init__(
        self,
        *,
        backbone: Backbone,
        num_classes: int,
        size: int,
        out_indices: Sequence[int],
        head: Callable[[int, int], nn.Module],
        auxiliary_map: int | None = 2,
        global_attn_blocks: Sequence[int] | None = None,
        checkpointing: bool = False,
    ) -> None:
        super().__init__()
        if num_classes < 2:
            raise ValueError(f"num_classes must be at least 2, got {num_classes}")
        self.num_classes = num_classes
        self.maps = DenseVit(
            backbone,
            size=size,
            out_indices=out_indices,
            global_attn_blocks=global_attn_blocks,
            checkpointing=checkpointing,
        )
        self.head = head(backbone.embed_dim, num_classes)
        check_maps(self.head, out_indices)
        if auxiliary_map is not None and not 0 <= auxiliary_map < len(out_indices):
            raise ValueError(f"auxiliary_map must be null or from 0 to {len(out_indices) - 1}, got {auxiliary_map}")
        self.auxiliary_map = auxiliary_map
        self.auxiliary = None
        if auxiliary_map is not None:
            norm = "group" if getattr(self.head, "norm", None) == "group" else "batch"
            self.auxiliary = FcnHead(backbone.embed_dim, num_classes, norm=norm)

    @property
    def backbone(self) -> Backbone:
        """The timm model, without the modules that are not needed."""
        return self.maps.backbone

    def forward(self, images: Tensor) -> SegmentationOutput:
        """Map normalised (B, C, H, W) images to scores, bilinearly resized to the size of the images."""
        maps = self.maps(images)
        size = images.shape[-2:]
        auxiliary = None
        if self.auxiliary is not None and self.auxiliary_map is not None and self.training:
            auxiliary = _upsample(self.auxiliary(maps[self.auxiliary_map]), size)
        return SegmentationOutput(_upsample(self.head(maps), size), auxiliary)


def check_maps(consumer: nn.Module, out_indices: Sequence[int]) -> None:
    """Raise ValueError unless a head or pyramid uses as many maps as there are ``out_indices``."""
    needed = cast(int, consumer.num_maps)
    if len(out_indices) != needed:
        raise ValueError(f"{type(consumer).__name__} needs {needed} maps, but out_indices={list(out_indices)}")


def _upsample(scores: Tensor, size: torch.Size) -> Tensor:
    return F.interpolate(scores.float(), size=size, mode="bilinear", align_corners=False)
