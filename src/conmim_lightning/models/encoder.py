"""timm vision Transformer with a mask token (ConMIM, arXiv 2205.09616; masking as in BEiT, arXiv 2106.08254)."""

from collections.abc import Callable
from functools import partial
from typing import cast

import torch
from timm.models.beit import Beit
from timm.models.eva import Eva
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from conmim_lightning.models.attention import (
    Implementation,
    beit_attention,
    check_implementation,
    prepare_bias,
    run_block,
)
from conmim_lightning.models.backbones import Backbone, info_of
from conmim_lightning.models.init import init_backbone, trunc_normal_

RunBlock = Callable[[nn.Module, Tensor], Tensor]


class Encoder(nn.Module):
    """Encoder that replaces the embeddings of hidden patches by one learned token and encodes all tokens.

    Shapes: B images, C channels, H x W pixels, h x w patches, N = h * w, T = prefix tokens + N, D width.

    Args:
        backbone: timm ``Beit`` (the method: shared relative position bias), ``VisionTransformer`` (absolute positions)
            or ``Eva`` (rotary positions), without classifier (num_classes=0) and with its final norm
            (global_pool="token"). A backbone built by timm directly is initialised as in the official code.
        locality: initial value of a shared table of relative positions: a penalty on the attention logits, linear in
            the distance, this much per patch for the first head, decreasing to 0 for the last (as ALiBi does for
            text, arXiv 2108.12409). 0, as in the official code, starts without any position information; short runs
            spend most of their steps on learning it. It has no effect on a backbone that starts from weights.
        checkpointing: whether to keep only the blocks' inputs in training and recompute the rest in the backward pass.
        attn_implementation: attention of a ``Beit``, see ``models.attention.Implementation``; other
            backbones accept "auto" only.

    Raises:
        ValueError: the backbone is of another family, has a classifier, lacks the final norm, drops patches or mixes
            rotations; locality is negative or the backbone has no shared table; or the implementation does not fit.
    """

    def __init__(
        self,
        backbone: Backbone,
        *,
        locality: float = 0.0,
        checkpointing: bool = False,
        attn_implementation: Implementation = "auto",
    ) -> None:
        super().__init__()
        _check_backbone(backbone)
        if locality < 0 or (locality and getattr(backbone, "rel_pos_bias", None) is None):
            raise ValueError(
                f"locality must be >= 0, and 0 without a shared table of relative positions; got {locality}"
            )
        check_implementation(backbone, attn_implementation)
        self.backbone = backbone
        self.checkpointing = checkpointing
        self.attn_implementation: Implementation = attn_implementation
        self.embed_dim = backbone.embed_dim
        self.num_prefix_tokens = backbone.num_prefix_tokens
        self.mask_token = nn.Parameter(torch.zeros(1, 1, backbone.embed_dim))
        info = info_of(backbone)
        if info is None:
            init_backbone(backbone)
        trunc_normal_(self.mask_token)
        if locality and (info is None or info.weights is None):
            self._init_locality(locality)

    @property
    def input_shape(self) -> tuple[int, int, int]:
        """Channels, height and width of the images."""
        embed = self.backbone.patch_embed
        height, width = cast(tuple[int, int], embed.img_size)
        return embed.get_submodule("proj").get_parameter("weight").shape[1], height, width

    @property
    def grid_size(self) -> tuple[int, int]:
        """Patches along height and width."""
        return cast(tuple[int, int], self.backbone.patch_embed.grid_size)

    def forward(self, images: Tensor, mask: Tensor | None = None) -> Tensor:
        """Encode images, with hidden patches replaced by the mask token.

        Args:
            images: (B, C, H, W) normalised.
            mask: (B, h, w) bool, True = hidden; None hides nothing.

        Returns:
            (B, T, D) tokens after the final norm, prefix tokens first.
        """
        patches = self.backbone.patch_embed(images).flatten(1, -2)  # (B, N, D)
        if mask is not None:
            patches = torch.where(mask.flatten(1)[..., None], self.mask_token.to(patches.dtype), patches)
        return self.backbone.norm(self._blocks(patches))

    def patch_tokens(self, images: Tensor, block: int | None = None) -> Tensor:
        """Encode images without a mask, for probes and maps.

        Args:
            images: (B, C, H, W) normalised.
            block: index of the block whose output is returned, 0 to depth - 1; None for the output of the final norm.

        Returns:
            (B, N, D) patch tokens, without the prefix tokens.
        """
        patches = self.backbone.patch_embed(images).flatten(1, -2)
        tokens = self._blocks(patches, last=block)
        if block is None:
            tokens = self.backbone.norm(tokens)
        return tokens[:, self.num_prefix_tokens :]

    def _blocks(self, patches: Tensor, last: int | None = None) -> Tensor:
        """Add positions and prefix tokens and run the blocks up to ``last``; (B, N, D) -> (B, T, D)."""
        tokens, run = self._start(patches)
        for block in list(self.backbone.blocks)[: None if last is None else last + 1]:
            if self.checkpointing and self.training and torch.is_grad_enabled():
                tokens = cast(Tensor, checkpoint(partial(run, block), tokens, use_reentrant=False))
            else:
                tokens = run(block, tokens)
        return tokens

    def _start(self, patches: Tensor) -> tuple[Tensor, RunBlock]:
        """Return the tokens before the first block, and a function that runs a block on them."""
        backbone = self.backbone
        if isinstance(backbone, Eva):
            tokens, rope = backbone._pos_embed(patches)
            return backbone.norm_pre(tokens), lambda block, tokens: block(tokens, rope=rope)
        if not isinstance(backbone, Beit):
            return backbone.norm_pre(backbone._pos_embed(patches)), lambda block, tokens: block(tokens)
        tokens = torch.cat([backbone.cls_token.expand(len(patches), -1, -1), patches], 1)
        if backbone.pos_embed is not None:
            tokens = tokens + backbone.pos_embed
        tokens = backbone.pos_drop(tokens)
        if backbone.rel_pos_bias is None:
            return tokens, lambda block, tokens: block(tokens)
        bias = prepare_bias(backbone.rel_pos_bias(), self.attn_implementation)
        attend = partial(beit_attention, bias=bias, implementation=self.attn_implementation)
        return tokens, lambda block, tokens: run_block(block, tokens, attend)  # type: ignore[arg-type]

    @torch.no_grad()
    def _init_locality(self, locality: float) -> None:
        rows, columns = self.grid_size
        table = self.backbone.get_parameter("rel_pos_bias.relative_position_bias_table")  # (offsets + 3, heads)
        offset_y = torch.arange(1 - rows, rows)[:, None]
        offset_x = torch.arange(1 - columns, columns)[None, :]
        distance = torch.sqrt(offset_y**2 + offset_x**2).flatten()
        table[: len(distance)] = -locality * distance[:, None] * torch.linspace(1, 0, table.shape[1])


def _check_backbone(backbone: Backbone) -> None:
    if not isinstance(backbone, Backbone):
        raise ValueError(f"backbone must be a timm Beit, VisionTransformer or Eva, got {type(backbone).__name__}")
    if backbone.num_classes or isinstance(backbone.norm, nn.Identity):
        raise ValueError("backbone must be built with num_classes=0 and global_pool='token'")
    width, heads = backbone.embed_dim, cast(int, backbone.blocks[0].get_submodule("attn").num_heads)
    if width % heads:
        raise ValueError(f"embed_dim {width} does not divide into num_heads={heads} heads")
    drops = not isinstance(getattr(backbone, "patch_drop", None), nn.Identity | None)
    if drops or getattr(backbone, "rope_mixed", False):
        raise ValueError("backbone must not drop patches (patch_drop_rate) or mix its rotations (rope_mixed)")
