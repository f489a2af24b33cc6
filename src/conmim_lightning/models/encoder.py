"""A timm vision Transformer with a mask token (ConMIM, arXiv 2205.09616; masking as in BEiT, arXiv 2106.08254)."""

from functools import partial
from typing import cast

import torch
from timm.models.beit import Beit
from timm.models.eva import Eva
from timm.models.vision_transformer import VisionTransformer
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from conmim_lightning.models.attention import Way, check_attention, choose_attention, ready_bias
from conmim_lightning.models.initial import cut_normal_, init_backbone

Backbone = Beit | VisionTransformer | Eva


class Encoder(nn.Module):
    """Replaces the patch embeddings of hidden patches by one learned token and encodes all tokens.

    Shapes: B images, C channels, H x W pixels, h x w patches, N = h * w, T = prefix tokens + N, D width.

    Args:
        backbone: timm ``Beit`` (the method: shared relative position bias), ``VisionTransformer`` (absolute positions)
            or ``Eva`` (rotary positions), without classifier (num_classes=0) and with its final norm
            (global_pool="token"). Its weights are drawn as in the official code, unless it was started from weights.
        locality: of a shared table of relative positions at the start: the attention logit of the first head falls by
            this much a patch of distance, of the following heads by less, down to 0 for the last (as ALiBi does for
            text, arXiv 2108.12409). 0, as in the official code, starts without any notion of place, which short runs
            spend most of their steps to learn. Of no effect on a backbone that was started from weights.
        checkpointing: in training with gradients, keep the inputs of the blocks alone and compute the rest again.
        attention: how a ``Beit`` computes it, see ``models.attention.Way``; other backbones know "auto" only.

    Raises:
        ValueError: the backbone is of another family, has a classifier, lacks the final norm, drops patches or mixes
            rotations, or locality is negative or asked of a backbone without a shared table, or it cannot attend so.
    """

    def __init__(
        self, backbone: Backbone, *, locality: float = 0.0, checkpointing: bool = False, attention: Way = "auto"
    ) -> None:
        super().__init__()
        if not isinstance(backbone, Beit | VisionTransformer | Eva):
            raise ValueError(f"backbone must be a timm Beit, VisionTransformer or Eva, got {type(backbone).__name__}")
        if backbone.num_classes or isinstance(backbone.norm, nn.Identity):
            raise ValueError("backbone must be made with num_classes=0 and global_pool='token'")
        self.backbone = backbone
        width, heads = backbone.embed_dim, backbone.blocks[0].get_submodule("attn").num_heads
        if width % cast(int, heads):
            raise ValueError(f"embed_dim {width} does not divide into {heads} heads of attention")
        drops = not isinstance(getattr(backbone, "patch_drop", None), nn.Identity | None)
        if drops or getattr(backbone, "rope_mixed", False):
            raise ValueError("backbone must not drop patches (patch_drop_rate), nor mix its rotations (rope_mixed)")
        if locality < 0 or (locality and getattr(backbone, "rel_pos_bias", None) is None):
            raise ValueError(
                f"locality must be >= 0, and 0 without a shared table of relative positions; got {locality}"
            )
        check_attention(backbone, attention)
        self.checkpointing = checkpointing
        self.attention: Way = attention
        self.embed_dim = backbone.embed_dim
        self.num_prefix_tokens = backbone.num_prefix_tokens
        self.mask_token = nn.Parameter(torch.zeros(1, 1, backbone.embed_dim))
        if not hasattr(backbone, "started_from"):  # made by timm itself; ours are drawn already
            init_backbone(backbone)
        cut_normal_(self.mask_token)
        if locality and not getattr(backbone, "started_from", None):
            self._start_local(locality)

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
        """Encode images.

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

    def choose_attention(self, device: torch.device) -> None:
        """Prepare for a device. Every forward does it; to be done before ``torch.compile``, which would do it twice."""
        if isinstance(self.backbone, Beit):
            choose_attention(self.backbone.blocks, device, self.attention)

    def patch_tokens(self, images: Tensor, block: int | None = None) -> Tensor:
        """Features of whole images for probes and maps.

        Args:
            images: (B, C, H, W) normalised.
            block: read after this block, 0 to depth - 1, before any norm; None reads after the final norm.

        Returns:
            (B, N, D) patch tokens, without the prefix tokens.
        """
        patches = self.backbone.patch_embed(images).flatten(1, -2)
        tokens = self._blocks(patches, last=block)
        if block is None:
            tokens = self.backbone.norm(tokens)
        return tokens[:, self.num_prefix_tokens :]

    def _blocks(self, patches: Tensor, last: int | None = None) -> Tensor:
        """Positions, prefix tokens and blocks up to ``last``; (B, N, D) -> (B, T, D)."""
        backbone = self.backbone
        blocks = list(backbone.blocks)[: None if last is None else last + 1]
        if isinstance(backbone, Beit):
            tokens = torch.cat([backbone.cls_token.expand(len(patches), -1, -1), patches], 1)
            if backbone.pos_embed is not None:
                tokens = tokens + backbone.pos_embed
            tokens = backbone.pos_drop(tokens)
            self.choose_attention(tokens.device)
            shared = backbone.rel_pos_bias
            bias = None if shared is None else ready_bias(shared(), self.attention)
            for block in blocks:
                tokens = self._through(block, tokens, shared_rel_pos_bias=bias)
            return tokens
        if isinstance(backbone, Eva):
            tokens, rope = backbone._pos_embed(patches)
            tokens = backbone.norm_pre(tokens)
            for block in blocks:
                tokens = self._through(block, tokens, rope=rope)
            return tokens
        tokens = backbone.norm_pre(backbone._pos_embed(patches))
        for block in blocks:
            tokens = self._through(block, tokens)
        return tokens

    def _through(self, block: nn.Module, tokens: Tensor, **positions: Tensor | None) -> Tensor:
        if self.checkpointing and self.training and torch.is_grad_enabled():
            return cast(Tensor, checkpoint(partial(block, **positions), tokens, use_reentrant=False))
        return block(tokens, **positions)

    @torch.no_grad()
    def _start_local(self, locality: float) -> None:
        rows, columns = self.grid_size
        table = self.backbone.get_parameter("rel_pos_bias.relative_position_bias_table")  # (offsets + 3, heads)
        offset_y = torch.arange(1 - rows, rows)[:, None]
        offset_x = torch.arange(1 - columns, columns)[None, :]
        distance = torch.sqrt(offset_y**2 + offset_x**2).flatten()
        table[: len(distance)] = -locality * distance[:, None] * torch.linspace(1, 0, table.shape[1])
