"""torchvision's Mask R-CNN on a plain vision Transformer."""

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, Literal, NamedTuple

import torch
from timm.layers.norm import LayerNorm2d
from torch import Tensor, nn
from torchvision.models.detection import FasterRCNN, MaskRCNN
from torchvision.models.detection.anchor_utils import AnchorGenerator
from torchvision.models.detection.faster_rcnn import FastRCNNConvFCHead, FastRCNNPredictor
from torchvision.models.detection.image_list import ImageList
from torchvision.models.detection.mask_rcnn import MaskRCNNHeads, MaskRCNNPredictor
from torchvision.models.detection.roi_heads import paste_masks_in_image
from torchvision.models.detection.rpn import RPNHead
from torchvision.ops import clip_boxes_to_image, remove_small_boxes

from conmim_lightning.batches import Objects
from conmim_lightning.models.dense_vit import DenseVit

Norm = Literal["layer", "batch"]
NORMS: dict[str, Callable[..., nn.Module]] = {"layer": partial(LayerNorm2d, eps=1e-6), "batch": nn.BatchNorm2d}
"""Norms of the heads: as in ViTDet, or as in MIMDet's benchmark (there over all devices: trainer.sync_batchnorm)."""

_RATIOS = (0.5, 1.0, 2.0)
_PASTED = 8


class Found(NamedTuple):
    """The n objects that a detector found in an image.

    Attributes:
        boxes: (n, 4) float32: left, top, right, bottom in pixels of the image's file.
        scores: (n,) float32, descending.
        labels: (n,) int64, 0-based classes.
        masks: (n, H, W) bool; (0, H, W) of a detector of boxes alone.
    """

    boxes: Tensor
    scores: Tensor
    labels: Tensor
    masks: Tensor


class Detector(nn.Module):
    """Maps of a vision Transformer, a pyramid, a region proposal network, heads for boxes and masks.

    Regions, losses and suppression are torchvision's, in float32 whatever the precision: bfloat16 would move boxes by
    pixels. A padded square counts as the image, as in MIMDet's benchmark; boxes found are cut at the image's own edge.

    Shapes: B images, C channels, S x S pixels.

    Args:
        backbone: timm vision Transformer, see ``DenseVit``.
        num_classes: K, >= 1, without background.
        size: S.
        read: blocks to read, as many as the pyramid wants.
        pyramid: factory that takes the width: ``SimplePyramid`` or ``BenchmarkPyramid``.
        global_blocks: see ``DenseVit``.
        checkpointing: see ``DenseVit``.
        masks: also find masks.
        norm: of the heads, "layer" or "batch".
        anchors: sides in pixels, one a level of the pyramid, the finest first.
        proposals: regions kept after suppression; twice as many of each level enter it in training.
        regions: drawn from them in each image to train the heads for boxes and masks.
        head_channels: of the heads' convolutions.
        head_width: of the layer behind those for boxes.
        score_threshold: least score of what is found.
        most: objects found in an image at most.

    Raises:
        ValueError: a number does not fit.
    """

    def __init__(
        self,
        *,
        backbone: Any,
        num_classes: int,
        size: int,
        read: Sequence[int],
        pyramid: Callable[[int], Any],
        global_blocks: Sequence[int] | None = None,
        checkpointing: bool = False,
        masks: bool = True,
        norm: Norm = "layer",
        anchors: Sequence[int] = (32, 64, 128, 256, 512),
        proposals: int = 1000,
        regions: int = 512,
        head_channels: int = 256,
        head_width: int = 1024,
        score_threshold: float = 0.05,
        most: int = 100,
    ) -> None:
        super().__init__()
        if norm not in NORMS:
            raise ValueError(f"norm must be one of {list(NORMS)}, got {norm!r}")
        if len(anchors) != 5 or min(anchors) < 1:
            raise ValueError(f"anchors must be five sides in pixels, one a level, got {list(anchors)}")
        counts = {"num_classes": num_classes, "proposals": proposals, "regions": regions, "most": most}
        counts |= {"head_channels": head_channels, "head_width": head_width}
        if min(counts.values()) < 1 or not 0 <= score_threshold < 1:
            raise ValueError(
                f"these must be at least 1, and score_threshold in [0, 1): {counts}, score_threshold {score_threshold}"
            )
        maps = DenseVit(backbone, size=size, read=read, global_blocks=global_blocks, checkpointing=checkpointing)
        levels = pyramid(backbone.embed_dim)
        if len(read) != levels.wanted:
            raise ValueError(f"{type(levels).__name__} takes {levels.wanted} maps, read={list(read)} names others")
        self.num_classes = num_classes
        self.size = size
        self.masks = masks
        self.net = _network(
            _Levels(maps, levels),
            num_classes + 1,
            masks=masks,
            norm=norm,
            anchors=anchors,
            widths=(head_channels, head_width),
            box_batch_size_per_image=regions,
            rpn_pre_nms_top_n_train=2 * proposals,
            rpn_pre_nms_top_n_test=proposals,
            rpn_post_nms_top_n_train=proposals,
            rpn_post_nms_top_n_test=proposals,
            box_score_thresh=score_threshold,
            box_detections_per_img=most,
        )

    @property
    def backbone(self) -> Any:
        """The timm model, without what is not needed."""
        return self.net.backbone.maps.backbone

    def losses(self, images: Tensor, objects: Sequence[Objects]) -> dict[str, Tensor]:
        """Losses of a batch, by torchvision's names.

        Args:
            images: (B, C, S, S) normalised.
            objects: of each, in the square's pixels.
        """
        targets = [{"boxes": o.boxes, "labels": o.labels + 1, "masks": o.masks.to(torch.uint8)} for o in objects]
        squares = self._squares(images)
        levels = self.net.backbone(images)
        regions, first = self.net.rpn(squares, levels, targets)
        _, second = self.net.roi_heads(levels, regions, squares.image_sizes, targets)
        return first | second

    def forward(self, images: Tensor, size: Tensor, original: Tensor) -> list[Found]:
        """What is in images.

        Args:
            images: (B, C, S, S) normalised.
            size: (B, 2) height and width of each image within its square.
            original: (B, 2) height and width of its file.
        """
        squares = self._squares(images)
        levels = self.net.backbone(images)
        regions, _ = self.net.rpn(squares, levels)
        found, _ = self.net.roi_heads(levels, regions, squares.image_sizes)
        return [_in_file(*parts) for parts in zip(found, size.tolist(), original.tolist(), strict=True)]

    def _squares(self, images: Tensor) -> ImageList:
        return ImageList(images, [(self.size, self.size)] * len(images))


class _Levels(nn.Module):
    """The pyramid of an image, as torchvision wants it."""

    def __init__(self, maps: DenseVit, pyramid: Any) -> None:
        super().__init__()
        self.maps = maps
        self.pyramid = pyramid
        self.out_channels = pyramid.out_channels

    def forward(self, images: Tensor) -> dict[str, Tensor]:
        return self.pyramid(self.maps(images))


class _Anchors(AnchorGenerator):
    """torchvision makes them in the dtype of the maps; bfloat16 would move them by pixels."""

    def forward(self, image_list: ImageList, feature_maps: list[Tensor]) -> list[Tensor]:
        return super().forward(image_list, [found.float() for found in feature_maps])


class _Float32(nn.Module):
    """Gives what a head gives in float32."""

    def __init__(self, head: nn.Module) -> None:
        super().__init__()
        self.head = head

    def forward(self, *given: Any) -> Any:
        return _floats(self.head(*given))


def _floats(found: Any) -> Any:
    return found.float() if isinstance(found, Tensor) else type(found)(map(_floats, found))


def _network(
    levels: _Levels,
    num_outputs: int,
    *,
    masks: bool,
    norm: str,
    anchors: Sequence[int],
    widths: tuple[int, int],
    **settings: Any,
) -> Any:
    """The recipe's heads: two convolutions for regions, four and a layer for boxes, four for masks."""
    channels, make_norm = levels.out_channels, NORMS[norm]
    settings |= {
        "rpn_anchor_generator": _Anchors(tuple((side,) for side in anchors), (_RATIOS,) * len(anchors)),
        "rpn_head": _Float32(RPNHead(channels, len(_RATIOS), conv_depth=2)),
        "box_head": FastRCNNConvFCHead((channels, 7, 7), [widths[0]] * 4, [widths[1]], norm_layer=make_norm),
        "box_predictor": _Float32(FastRCNNPredictor(widths[1], num_outputs)),
    }
    if not masks:
        return FasterRCNN(levels, **settings)
    heads = MaskRCNNHeads(channels, [widths[0]] * 4, 1, norm_layer=make_norm)
    last = _Float32(MaskRCNNPredictor(widths[0], widths[0], num_outputs))
    return MaskRCNN(levels, mask_head=heads, mask_predictor=last, **settings)


def _in_file(found: dict[str, Tensor], size: list[int], original: list[int]) -> Found:
    """From the square's pixels to the file's."""
    boxes = clip_boxes_to_image(found["boxes"], (size[0], size[1]))
    kept = remove_small_boxes(boxes, 1e-2)
    factors = boxes.new_tensor([original[1] / size[1], original[0] / size[0]]).repeat(2)
    pasted_at = found["boxes"][kept] * factors
    masks = torch.zeros(0, *original, dtype=torch.bool, device=boxes.device)
    if "masks" in found and len(kept):  # few at once, as they are pasted in float32
        parts = zip(found["masks"][kept].split(_PASTED), pasted_at.split(_PASTED), strict=True)
        pasted = [paste_masks_in_image(*part, (original[0], original[1]))[:, 0] > 0.5 for part in parts]
        masks = torch.cat(pasted)
    return Found(boxes[kept] * factors, found["scores"][kept], found["labels"][kept] - 1, masks)
