"""Features of a frozen vision Transformer."""

import re
from collections.abc import Sequence
from typing import Any, Self

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from conmim_lightning.models.backbones import Backbone

_NAME = re.compile(r"last([1-9]\d*)_(mean|cls|cls_mean)")
PIXELS = "pixels"
_PIXEL_SIDE = 32  # pixels per side of the feature "pixels"


class FrozenFeatures(nn.Module):
    """Compute one vector per image and feature with a frozen backbone.

    A feature is "last<n>_mean" (mean of the patch tokens), "last<n>_cls" (class token) or "last<n>_cls_mean" (both) of
    the last n blocks, concatenated, each after the final norm, as in DINO (arXiv 2104.14294) and DINOv2 (arXiv
    2304.07193); or "pixels", the image itself at no more than 32 pixels per side, as a baseline.

    Shapes: B images, C channels, H x W pixels.

    Args:
        backbone: timm vision Transformer without classifier and with its final norm.
        features: names of features, at least one.

    Raises:
        ValueError: the backbone has a classifier or lacks the final norm; a name is unknown, or needs more blocks
            than there are or a class token that the backbone lacks.
    """

    def __init__(self, backbone: Backbone, features: Sequence[str]) -> None:
        super().__init__()
        if backbone.num_classes or isinstance(backbone.norm, nn.Identity):
            raise ValueError("frozen features need a backbone with num_classes=0 and global_pool=token")
        self.backbone = backbone.requires_grad_(False)
        self.features = list(dict.fromkeys(features))
        if not self.features:
            raise ValueError("at least one feature is needed, such as last1_mean")
        self.blocks: dict[str, int] = {}
        for feature in self.features:
            if feature == PIXELS:
                continue
            match = _NAME.fullmatch(feature)
            if match is None or int(match[1]) > len(backbone.blocks):
                raise ValueError(
                    f"feature {feature!r} is unknown; allowed are pixels and last<n>_mean, last<n>_cls and "
                    f"last<n>_cls_mean with n from 1 to {len(backbone.blocks)}"
                )
            if "cls" in feature and not backbone.num_prefix_tokens:
                raise ValueError(f"feature {feature!r} needs a class token, which the backbone lacks")
            self.blocks[feature] = int(match[1])
        self.eval()

    def train(self, mode: bool = True) -> Self:
        """Stay in eval mode, i.e. without drop path, even if modules on top are trained."""
        return super().train(False)

    @property
    def widths(self) -> dict[str, int]:
        """Width of each feature, by name."""
        embed = self.backbone.patch_embed
        channels = embed.get_submodule("proj").get_parameter("weight").shape[1]
        pixels = channels * min(_PIXEL_SIDE, embed.img_size[0]) ** 2  # type: ignore[index]
        width = self.backbone.embed_dim
        return {
            name: pixels if name == PIXELS else width * self.blocks[name] * (2 if "cls_mean" in name else 1)
            for name in self.features
        }

    @torch.no_grad()
    def forward(self, images: Tensor) -> dict[str, Tensor]:
        """Map normalised (B, C, H, W) images to (B, width) float32 vectors by feature."""
        vectors: dict[str, Tensor] = {}
        if PIXELS in self.features:
            side = min(_PIXEL_SIDE, images.shape[-1])
            vectors[PIXELS] = F.interpolate(images, size=side, mode="area").flatten(1)
        if self.blocks:
            outputs: Any = self.backbone.forward_intermediates(
                images,
                indices=max(self.blocks.values()),
                return_prefix_tokens=True,
                norm=True,
                output_fmt="NLC",
                intermediates_only=True,
            )
            pooled = [(patches.mean(1), prefix[:, 0]) for patches, prefix in outputs]
            for name, blocks in self.blocks.items():
                vectors[name] = _concatenate(pooled[-blocks:], name)
        return {name: vectors[name].float() for name in self.features}


def _concatenate(pooled: list[tuple[Tensor, Tensor]], name: str) -> Tensor:
    """Return (B, width) from the mean patch token and class token of each block, in the order of blocks."""
    chosen = []
    for mean, cls in pooled:
        chosen += [cls] if "cls" in name else []
        chosen += [mean] if name.endswith("mean") else []
    return torch.cat(chosen, 1)
