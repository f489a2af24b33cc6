"""A vision Transformer with a head that gives every pixel a class."""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

from torch import Tensor, nn
from torch.nn import functional as F

from conmim_lightning.models.dense_vit import DenseVit
from conmim_lightning.models.segmentation_heads import FcnHead


class PixelScores(NamedTuple):
    """What a segmenter says of a batch.

    Attributes:
        scores: (B, K, H, W), before the softmax.
        auxiliary: the same of the auxiliary head; None outside training, or without one.
    """

    scores: Tensor
    auxiliary: Tensor | None


class Segmenter(nn.Module):
    """Backbone, head, and an auxiliary head on one of the maps that only training uses.

    Shapes: B images, C channels, H x W pixels that the patch size divides, K classes.

    Args:
        backbone: timm vision Transformer, see ``DenseVit``.
        num_classes: K, >= 2.
        size: pixels a side of the images to train on.
        read: blocks to read; as many as the head wants.
        head: factory that takes the width and K.
        auxiliary_map: number of the map that an auxiliary ``FcnHead`` is put on (official: 2); null for none.
        global_blocks: see ``DenseVit``.
        checkpointing: see ``DenseVit``.

    Raises:
        ValueError: the numbers do not fit one another.
    """

    def __init__(
        self,
        *,
        backbone: Any,
        num_classes: int,
        size: int,
        read: Sequence[int],
        head: Callable[..., Any],
        auxiliary_map: int | None = 2,
        global_blocks: Sequence[int] | None = None,
        checkpointing: bool = False,
    ) -> None:
        super().__init__()
        if num_classes < 2:
            raise ValueError(f"num_classes must be at least 2, got {num_classes}")
        self.num_classes = num_classes
        self.maps = DenseVit(backbone, size=size, read=read, global_blocks=global_blocks, checkpointing=checkpointing)
        self.head = head(backbone.embed_dim, num_classes)
        if len(read) != self.head.wanted:
            raise ValueError(
                f"{type(self.head).__name__} takes {self.head.wanted} maps, read={list(read)} names others"
            )
        if auxiliary_map is not None and not 0 <= auxiliary_map < len(read):
            raise ValueError(f"auxiliary_map must be null or from 0 to {len(read) - 1}, got {auxiliary_map}")
        self.auxiliary_map = auxiliary_map
        self.auxiliary = (
            None
            if auxiliary_map is None
            else FcnHead(
                backbone.embed_dim,
                num_classes,
                norm="group" if getattr(self.head, "norm", None) == "group" else "batch",
            )
        )

    @property
    def backbone(self) -> Any:
        """The timm model, without what is not needed."""
        return self.maps.backbone

    def forward(self, images: Tensor) -> PixelScores:
        """(B, C, H, W) normalised images to scores at their size, bilinear from the head's."""
        maps = self.maps(images)
        size = images.shape[-2:]
        auxiliary = None
        if self.auxiliary is not None and self.training:
            assert self.auxiliary_map is not None
            auxiliary = _enlarged(self.auxiliary(maps[self.auxiliary_map]), size)
        return PixelScores(_enlarged(self.head(maps), size), auxiliary)


def _enlarged(scores: Tensor, size: Any) -> Tensor:
    return F.interpolate(scores.float(), size=size, mode="bilinear", align_corners=False)
