"""Features of a frozen vision Transformer."""

import re
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

_NAME = re.compile(r"last([1-9]\d*)_(mean|cls|cls_mean)")
PIXELS = "pixels"
_PIXEL_SIDE = 32  # raw pixels are compared at this size


class FrozenFeatures(nn.Module):
    """One vector an image for each of several ways to read it from the last blocks; nothing is ever trained.

    A way is "last<n>_mean" (mean of the patch tokens), "last<n>_cls" (class token) or "last<n>_cls_mean" (both), of the
    last n blocks side by side, each after the final norm, as in DINO (arXiv 2104.14294) and DINOv2 (arXiv 2304.07193);
    or "pixels", the images themselves at 32 pixels a side at most, as a baseline.

    Shapes: B images, C channels, H x W pixels.

    Args:
        backbone: timm vision Transformer without classifier and with its final norm.
        ways: names, at least one.

    Raises:
        ValueError: the backbone has a classifier or lacks the final norm, or a name is unknown or asks for more
            blocks or for a class token than there are.
    """

    def __init__(self, backbone: Any, ways: Sequence[str]) -> None:
        super().__init__()
        if backbone.num_classes or isinstance(backbone.norm, nn.Identity):
            raise ValueError("frozen features need a backbone with num_classes=0 and global_pool=token")
        self.backbone = backbone.requires_grad_(False)
        self.ways = list(dict.fromkeys(ways))
        if not self.ways:
            raise ValueError("features need at least one way to read them, such as last1_mean")
        self.blocks: dict[str, int] = {}
        for way in self.ways:
            if way == PIXELS:
                continue
            match = _NAME.fullmatch(way)
            if match is None or int(match[1]) > len(backbone.blocks):
                raise ValueError(
                    f"features {way!r} are unknown; allowed are pixels and last<n>_mean, last<n>_cls and "
                    f"last<n>_cls_mean with n from 1 to {len(backbone.blocks)}"
                )
            if "cls" in way and not backbone.num_prefix_tokens:
                raise ValueError(f"features {way!r} need a class token, which the backbone lacks")
            self.blocks[way] = int(match[1])
        self.eval()

    def train(self, mode: bool = True) -> "FrozenFeatures":
        """Stays in eval mode: without drop path, whatever is trained on top."""
        return super().train(False)

    @property
    def widths(self) -> dict[str, int]:
        """Length of the vector of each way."""
        embed = self.backbone.patch_embed
        pixels = embed.proj.weight.shape[1] * min(_PIXEL_SIDE, embed.img_size[0]) ** 2
        width = self.backbone.embed_dim
        return {
            way: pixels if way == PIXELS else width * self.blocks[way] * (2 if "cls_mean" in way else 1)
            for way in self.ways
        }

    @torch.no_grad()
    def forward(self, images: Tensor) -> dict[str, Tensor]:
        """(B, C, H, W) normalised images to (B, width) float32 vectors by way."""
        found: dict[str, Tensor] = {}
        if PIXELS in self.ways:
            side = min(_PIXEL_SIDE, images.shape[-1])
            found[PIXELS] = F.interpolate(images, size=side, mode="area").flatten(1)
        if self.blocks:
            read = self.backbone.forward_intermediates(
                images,
                indices=max(self.blocks.values()),
                return_prefix_tokens=True,
                norm=True,
                output_fmt="NLC",
                intermediates_only=True,
            )
            parts = [(patches.mean(1), prefix[:, 0]) for patches, prefix in read]
            for way, blocks in self.blocks.items():
                found[way] = _read(parts[-blocks:], way)
        return {way: found[way].float() for way in self.ways}


def _read(parts: list[tuple[Tensor, Tensor]], way: str) -> Tensor:
    """(B, width) from the mean patch token and class token of each block, the last one last."""
    chosen = []
    for mean, cls in parts:
        chosen += [cls] if "cls" in way else []
        chosen += [mean] if way.endswith("mean") else []
    return torch.cat(chosen, 1)
