"""torchvision's Mask R-CNN with a plain vision Transformer."""

from collections.abc import Callable, Sequence
from functools import partial
from typing import Literal, cast

import torch
from timm.layers.norm import LayerNorm2d
from torch import Tensor, nn
from torch.utils._pytree import tree_map
from torchvision.models.detection import FasterRCNN, MaskRCNN
from torchvision.models.detection.anchor_utils import AnchorGenerator
from torchvision.models.detection.faster_rcnn import FastRCNNConvFCHead, FastRCNNPredictor
from torchvision.models.detection.image_list import ImageList
from torchvision.models.detection.mask_rcnn import MaskRCNNHeads, MaskRCNNPredictor
from torchvision.models.detection.roi_heads import paste_masks_in_image
from torchvision.models.detection.rpn import RPNHead
from torchvision.ops import clip_boxes_to_image, remove_small_boxes

from conmim_lightning.batches import Detections, Objects
from conmim_lightning.models.backbones import Backbone
from conmim_lightning.models.dense_vit import DenseVit
from conmim_lightning.models.segmenter import check_maps

Norm = Literal["layer", "batch"]
NORMS: dict[str, Callable[..., nn.Module]] = {"layer": partial(LayerNorm2d, eps=1e-6), "batch": nn.BatchNorm2d}
"""Norms of the heads: "layer" as in ViTDet, "batch" as in MIMDet (there over all devices: trainer.sync_batchnorm)."""

_ASPECT_RATIOS = (0.5, 1.0, 2.0)
_PASTED = 8  # number of masks pasted at once, in float32


class Detector(nn.Module):
    """Mask R-CNN: vision Transformer, feature pyramid, region proposal network, and heads for boxes and masks.

    Proposals, losses and NMS are torchvision's, in float32 for every precision, because bfloat16 would move boxes by
    pixels. As in MIMDet's benchmark, the padded square is used as the image; detected boxes are clipped to the image.

    Shapes: B images, C channels, S x S pixels.

    Args:
        backbone: timm vision Transformer, see ``DenseVit``.
        num_classes: number of classes without background, >= 1.
        size: pixels per side of the padded square, S.
        out_indices: blocks whose maps the pyramid uses, as many as it needs.
        pyramid: factory that takes the backbone's width: ``SimpleFeaturePyramid`` or ``MIMDetFPN``.
        global_attn_blocks: see ``DenseVit``.
        checkpointing: see ``DenseVit``.
        masks: whether to also predict masks.
        norm: norm of the heads, "layer" or "batch".
        anchor_sizes: anchor sides in pixels, one per level of the pyramid, the finest first.
        rpn_top_n: proposals kept after NMS; in training, twice as many per level enter NMS.
        box_batch_size_per_image: proposals sampled per image to train the heads.
        head_channels: channels of the heads' convolutions.
        box_head_dim: width of the linear layer of the box head.
        score_threshold: smallest score of a detection.
        detections_per_img: largest number of detections per image.

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
        pyramid: Callable[[int], nn.Module],
        global_attn_blocks: Sequence[int] | None = None,
        checkpointing: bool = False,
        masks: bool = True,
        norm: Norm = "layer",
        anchor_sizes: Sequence[int] = (32, 64, 128, 256, 512),
        rpn_top_n: int = 1000,
        box_batch_size_per_image: int = 512,
        head_channels: int = 256,
        box_head_dim: int = 1024,
        score_threshold: float = 0.05,
        detections_per_img: int = 100,
    ) -> None:
        super().__init__()
        if norm not in NORMS:
            raise ValueError(f"norm must be one of {list(NORMS)}, got {norm!r}")
        if len(anchor_sizes) != 5 or min(anchor_sizes) < 1:
            raise ValueError(f"anchor_sizes must be five sides in pixels, one per level, got {list(anchor_sizes)}")
        counts = {"num_classes": num_classes, "rpn_top_n": rpn_top_n, "head_channels": head_channels}
        counts |= {"box_batch_size_per_image": box_batch_size_per_image, "box_head_dim": box_head_dim}
        counts |= {"detections_per_img": detections_per_img}
        if min(counts.values()) < 1 or not 0 <= score_threshold < 1:
            raise ValueError(
                f"these must be at least 1, and score_threshold in [0, 1): {counts}, score_threshold {score_threshold}"
            )
        maps = DenseVit(
            backbone,
            size=size,
            out_indices=out_indices,
            global_attn_blocks=global_attn_blocks,
            checkpointing=checkpointing,
        )
        levels = pyramid(backbone.embed_dim)
        check_maps(levels, out_indices)
        self.num_classes = num_classes
        self.size = size
        self.masks = masks
        self.net = _network(
            _PyramidBackbone(maps, levels),
            num_classes + 1,
            masks=masks,
            norm=norm,
            anchor_sizes=anchor_sizes,
            widths=(head_channels, box_head_dim),
            box_batch_size_per_image=box_batch_size_per_image,
            rpn_pre_nms_top_n_train=2 * rpn_top_n,
            rpn_pre_nms_top_n_test=rpn_top_n,
            rpn_post_nms_top_n_train=rpn_top_n,
            rpn_post_nms_top_n_test=rpn_top_n,
            box_score_thresh=score_threshold,
            box_detections_per_img=detections_per_img,
        )

    @property
    def maps(self) -> DenseVit:
        """The backbone with its feature maps."""
        return cast(DenseVit, self.net.backbone.get_submodule("maps"))

    @property
    def backbone(self) -> Backbone:
        """The timm model, without the modules that are not needed."""
        return self.maps.backbone

    def losses(self, images: Tensor, objects: Sequence[Objects]) -> dict[str, Tensor]:
        """Return the losses of a batch by torchvision's names.

        Args:
            images: (B, C, S, S) normalised.
            objects: objects of each image, in coordinates of the square.
        """
        targets = [{"boxes": o.boxes, "labels": o.labels + 1, "masks": o.masks.to(torch.uint8)} for o in objects]
        squares = self._squares(images)
        levels = self.net.backbone(images)
        proposals, rpn_losses = self.net.rpn(squares, levels, targets)
        _, head_losses = self.net.roi_heads(levels, proposals, squares.image_sizes, targets)
        return rpn_losses | head_losses

    def forward(self, images: Tensor, size: Tensor, original: Tensor) -> list[Detections]:
        """Return the detections of each image.

        Args:
            images: (B, C, S, S) normalised.
            size: (B, 2) height and width of each image within its square.
            original: (B, 2) height and width of each image file.
        """
        squares = self._squares(images)
        levels = self.net.backbone(images)
        proposals, _ = self.net.rpn(squares, levels)
        results, _ = self.net.roi_heads(levels, proposals, squares.image_sizes)
        return [_to_file(*one) for one in zip(results, size.tolist(), original.tolist(), strict=True)]

    def _squares(self, images: Tensor) -> ImageList:
        return ImageList(images, [(self.size, self.size)] * len(images))


class _PyramidBackbone(nn.Module):
    """Backbone and pyramid with torchvision's interface."""

    def __init__(self, maps: DenseVit, pyramid: nn.Module) -> None:
        super().__init__()
        self.maps = maps
        self.pyramid = pyramid
        self.out_channels = cast(int, pyramid.out_channels)

    def forward(self, images: Tensor) -> dict[str, Tensor]:
        return self.pyramid(self.maps(images))


class _Float32Anchors(AnchorGenerator):
    """Anchors in float32; torchvision uses the dtype of the maps, and bfloat16 would move anchors by pixels."""

    def forward(self, image_list: ImageList, feature_maps: list[Tensor]) -> list[Tensor]:
        return super().forward(image_list, [features.float() for features in feature_maps])


class _Float32(nn.Module):
    """Convert the output of a head to float32."""

    def __init__(self, head: nn.Module) -> None:
        super().__init__()
        self.head = head

    def forward(self, *inputs: object) -> object:
        return tree_map(lambda output: output.float() if isinstance(output, Tensor) else output, self.head(*inputs))


def _network(
    backbone: _PyramidBackbone,
    num_outputs: int,
    *,
    masks: bool,
    norm: str,
    anchor_sizes: Sequence[int],
    widths: tuple[int, int],
    **settings: float,
) -> FasterRCNN:
    """Build the recipe's heads: two convolutions for proposals, four and a linear layer for boxes, four for masks."""
    channels, make_norm = backbone.out_channels, NORMS[norm]
    box = {
        "rpn_anchor_generator": _Float32Anchors(
            tuple((side,) for side in anchor_sizes), (_ASPECT_RATIOS,) * len(anchor_sizes)
        ),
        "rpn_head": _Float32(RPNHead(channels, len(_ASPECT_RATIOS), conv_depth=2)),
        "box_head": FastRCNNConvFCHead((channels, 7, 7), [widths[0]] * 4, [widths[1]], norm_layer=make_norm),
        "box_predictor": _Float32(FastRCNNPredictor(widths[1], num_outputs)),
    }
    if not masks:
        return FasterRCNN(backbone, **settings, **box)
    heads = MaskRCNNHeads(channels, [widths[0]] * 4, 1, norm_layer=make_norm)
    predictor = _Float32(MaskRCNNPredictor(widths[0], widths[0], num_outputs))
    return MaskRCNN(backbone, mask_head=heads, mask_predictor=predictor, **settings, **box)


def _to_file(result: dict[str, Tensor], size: list[int], original: list[int]) -> Detections:
    """Convert detections from coordinates of the square to coordinates of the image file."""
    boxes = clip_boxes_to_image(result["boxes"], (size[0], size[1]))
    keep = remove_small_boxes(boxes, 1e-2)
    factors = boxes.new_tensor([original[1] / size[1], original[0] / size[0]]).repeat(2)
    unclipped = result["boxes"][keep] * factors
    masks = torch.zeros(0, *original, dtype=torch.bool, device=boxes.device)
    if "masks" in result and len(keep):
        chunks = zip(result["masks"][keep].split(_PASTED), unclipped.split(_PASTED), strict=True)
        pasted = [paste_masks_in_image(*chunk, (original[0], original[1]))[:, 0] > 0.5 for chunk in chunks]
        masks = torch.cat(pasted)
    return Detections(boxes[keep] * factors, result["scores"][keep], result["labels"][keep] - 1, masks)
