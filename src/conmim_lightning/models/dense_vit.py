"""A vision Transformer as a maker of feature maps, for larger images than it was pre-trained on."""

from collections.abc import Sequence
from typing import Any

import torch
from timm.layers import resample_abs_pos_embed  # type: ignore[attr-defined]
from timm.models.beit import Beit
from timm.models.eva import Eva
from timm.models.vision_transformer import VisionTransformer
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.checkpoint import checkpoint

from conmim_lightning.models.relative_bias import RelativeBias
from conmim_lightning.models.windows import from_windows, to_windows
from conmim_lightning.weights.positions import resize_table

_TABLE = "relative_position_bias_table"
_PARTS = {"norm1", "attn", "drop_path1", "norm2", "mlp", "drop_path2", "ls1", "ls2"}  # of a block that is understood


class DenseVit(nn.Module):
    """Maps of patch tokens after chosen blocks, as BEiT's segmentation and ViTDet take them: without a final norm.

    The backbone is made as it was pre-trained; its tables of positions are resized here, as in the official
    fine-tuning, to ``size``; images of other sizes get parts of them, or resized copies. With windows, blocks see
    windows of the pre-training grid only, so that their tables carry over unchanged, but for a few that see everything
    (ViTDet, arXiv 2203.16527; MIMDet, arXiv 2204.02964); there is no class token then.

    Shapes: B images, C channels, H x W pixels that the patch size divides, h x w patches, D width.

    Args:
        backbone: timm ``Beit`` (tables of relative positions in the blocks), ``VisionTransformer`` or ``Eva``; what is
            not needed (norm, classifier, blocks behind the last one read) is taken off it.
        size: pixels a side of the images to train on.
        read: numbers of the blocks to read after, from 0, ascending.
        global_blocks: numbers of the blocks that see everything; null for all of them, without windows.
        checkpointing: compute each block again in the backward pass instead of keeping what is in it.

    Raises:
        ValueError: a number does not fit the backbone, or the backbone is of another family or shares one table.
    """

    def __init__(
        self,
        backbone: Any,
        *,
        size: int,
        read: Sequence[int],
        global_blocks: Sequence[int] | None = None,
        checkpointing: bool = False,
    ) -> None:
        super().__init__()
        _check_backbone(backbone)
        depth = len(backbone.blocks)
        for what, numbers in (("read", read), ("global_blocks", global_blocks or [0])):
            if not numbers or list(numbers) != sorted(set(numbers)) or not 0 <= numbers[0] <= numbers[-1] < depth:
                raise ValueError(f"{what} must be ascending numbers of blocks, 0 to {depth - 1}, got {list(numbers)}")
        self.patch_size = backbone.patch_embed.patch_size[0]
        if size % self.patch_size or size < self.patch_size:
            raise ValueError(f"size must be a multiple of the patch size {self.patch_size}, got {size}")
        self.size = size
        self.read = list(read)
        self.checkpointing = checkpointing
        self.embed_dim = backbone.embed_dim
        self.window = None if global_blocks is None else backbone.patch_embed.grid_size[0]
        self.global_blocks = set(range(depth) if global_blocks is None else global_blocks)
        self.num_prefix_tokens = backbone.num_prefix_tokens if self.window is None else 0
        backbone.prune_intermediate_layers([read[-1]], prune_norm=True, prune_head=True)
        self._bias = RelativeBias(class_token=self.num_prefix_tokens > 0)
        self._made: dict[tuple[int, int], Tensor] = {}
        self._fit_positions(backbone)
        self.backbone = backbone

    def forward(self, images: Tensor) -> list[Tensor]:
        """(B, C, H, W) normalised images to a map (B, D, h, w) for each block of ``read``."""
        if images.shape[-2] % self.patch_size or images.shape[-1] % self.patch_size:
            raise ValueError(f"images of {tuple(images.shape[-2:])} do not divide into patches of {self.patch_size}")
        patches = self.backbone.patch_embed.norm(self.backbone.patch_embed.proj(images).flatten(2).transpose(1, 2))
        height, width = (side // self.patch_size for side in images.shape[-2:])
        tokens, maps = self._with_positions(patches, height, width), []
        for number, block in enumerate(self.backbone.blocks):
            grid = (height, width, number in self.global_blocks)
            if self.checkpointing and self.training:
                tokens = checkpoint(self._through, block, tokens, *grid, use_reentrant=False)
            else:
                tokens = self._through(block, tokens, *grid)
            if number in self.read:
                maps.append(tokens[:, self.num_prefix_tokens :].transpose(1, 2).unflatten(2, (height, width)))
        return maps

    def _with_positions(self, patches: Tensor, height: int, width: int) -> Tensor:
        """(B, N, D) patches to (B, T, D) tokens."""
        backbone: Any = self.backbone
        if self.absolute is not None:
            found = self.absolute
            if found.shape[1] != height * width or height != width:
                side = round(found.shape[1] ** 0.5)
                found = resample_abs_pos_embed(found, [height, width], old_size=[side, side], num_prefix_tokens=0)
            patches = patches + found
        if self.num_prefix_tokens:
            prefix = [t for t in (backbone.cls_token, getattr(backbone, "reg_token", None)) if t is not None]
            first = torch.cat(prefix, 1)
            first = first if self.prefix_position is None else first + self.prefix_position
            patches = torch.cat([first.expand(len(patches), -1, -1), patches], 1)
        tokens = backbone.pos_drop(patches)
        return backbone.norm_pre(tokens) if hasattr(backbone, "norm_pre") else tokens

    def _through(self, block: Any, tokens: Tensor, height: int, width: int, everything: bool) -> Tensor:
        """One block; attention over all tokens or window by window."""
        seen, grid = block.norm1(tokens), (height, width)
        if not everything and self.window is not None:
            seen, grid = to_windows(seen.unflatten(1, (height, width)), self.window), (self.window, self.window)
        found = self._attend(block.attn, seen, grid)
        if not everything and self.window is not None:
            found = from_windows(found, self.window, height, width).flatten(1, 2)
        tokens = tokens + block.drop_path1(_scaled(block, 1, found))
        return tokens + block.drop_path2(_scaled(block, 2, block.mlp(block.norm2(tokens))))

    def _attend(self, attention: Any, tokens: Tensor, grid: tuple[int, int]) -> Tensor:
        if isinstance(self.backbone, Beit):
            table = attention.relative_position_bias_table
            return _attend(attention, tokens, None if table is None else self._bias(table, *grid))
        if isinstance(self.backbone, Eva):
            return attention(tokens, rope=self._rotations(grid, tokens.device))
        return attention(tokens)

    def _rotations(self, grid: tuple[int, int], device: torch.device) -> Tensor | None:
        """Rotary positions of a grid, made once."""
        rope: Any = self.backbone.rope
        if rope is None:
            return None
        if grid not in self._made:
            with torch.inference_mode(False):  # training may follow
                found = rope.get_embed(shape=grid)
                if found.shape[-2] != grid[0] * grid[1]:  # timm keeps those of one grid
                    rope.update_feat_shape(list(grid))
                    found = rope.get_embed()
                self._made[grid] = found.clone()
        self._made[grid] = self._made[grid].to(device)
        return self._made[grid]

    def _fit_positions(self, backbone: Any) -> None:
        """Resize positions to ``size``; drop what windows have no use for, so that every parameter has a gradient."""
        side = self.size // self.patch_size
        for number, block in enumerate(backbone.blocks):
            table = getattr(block.attn, _TABLE, None)
            if table is not None:
                block.attn.relative_position_index = None  # ours serves all blocks
                if number in self.global_blocks:
                    setattr(block.attn, _TABLE, nn.Parameter(resize_table(table.detach(), (side, side))))
        self._fit_absolute(backbone, side)
        if self.window is not None:
            self._drop_prefix(backbone)

    @staticmethod
    def _drop_prefix(backbone: Any) -> None:
        """Windows have no use for a class token."""
        for token in ("cls_token", "reg_token"):
            if getattr(backbone, token, None) is not None:
                setattr(backbone, token, None)
        for block in backbone.blocks:
            if hasattr(block.attn, "num_prefix_tokens"):
                block.attn.num_prefix_tokens = 0

    def _fit_absolute(self, backbone: Any, side: int) -> None:
        """Take over absolute positions, for ``side`` x ``side`` patches."""
        self.absolute, self.prefix_position = None, None
        if getattr(backbone, "pos_embed", None) is None:
            return
        position, backbone.pos_embed = backbone.pos_embed.detach(), None
        prefix = position.shape[1] - backbone.patch_embed.num_patches
        patches = resample_abs_pos_embed(position[:, prefix:], [side, side], num_prefix_tokens=0)
        self.absolute = nn.Parameter(patches.clone())
        if prefix and self.num_prefix_tokens:
            self.prefix_position = nn.Parameter(position[:, :prefix].clone())


def _check_backbone(backbone: Any) -> None:
    if not isinstance(backbone, Beit | VisionTransformer | Eva):
        raise ValueError(f"backbone must be a timm Beit, VisionTransformer or Eva, got {type(backbone).__name__}")
    if getattr(backbone, "rel_pos_bias", None) is not None:
        raise ValueError(
            "backbone must have a table of relative positions in each block, not a shared one: "
            "backbone.use_shared_rel_pos_bias=false backbone.use_rel_pos_bias=true"
        )
    grid, strange = backbone.patch_embed.grid_size, {name for name, _ in backbone.blocks[0].named_children()} - _PARTS
    if grid[0] != grid[1] or strange or getattr(backbone, "rope_mixed", False):
        raise ValueError(
            f"backbone must have a square grid and plain blocks, got {grid[0]} x {grid[1]} patches, {sorted(strange)}"
        )


def _scaled(block: Any, part: int, values: Tensor) -> Tensor:
    """The layer scale of a block, which timm's families keep in two ways."""
    if hasattr(block, f"ls{part}"):
        return block.get_submodule(f"ls{part}")(values)
    gamma = getattr(block, f"gamma_{part}")
    return values if gamma is None else gamma * values


def _attend(attention: Any, tokens: Tensor, bias: Tensor | None) -> Tensor:
    """Attention of timm's BEiT with a bias from outside; (B, T, D), (heads, T, T) -> (B, T, D)."""
    qkv_bias = None
    if attention.q_bias is not None:
        qkv_bias = torch.cat([attention.q_bias, attention.k_bias, attention.v_bias])
    qkv = F.linear(tokens, attention.qkv.weight, qkv_bias)
    query, key, value = qkv.unflatten(2, (3, attention.num_heads, -1)).permute(2, 0, 3, 1, 4)
    dropped = attention.attn_drop.p if attention.training else 0.0
    mask = None if bias is None else bias.to(query.dtype)[None]
    found = F.scaled_dot_product_attention(query, key, value, attn_mask=mask, dropout_p=dropped)
    return attention.proj_drop(attention.proj(found.transpose(1, 2).flatten(2)))
