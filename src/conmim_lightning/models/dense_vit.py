"""Vision Transformer that outputs feature maps, for images larger than in pre-training."""

from collections.abc import Sequence
from typing import Any, cast

import torch
from timm.layers import resample_abs_pos_embed  # type: ignore[attr-defined]
from timm.models.beit import Attention, Beit
from timm.models.eva import Eva
from timm.models.vision_transformer_sam import window_partition, window_unpartition
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from conmim_lightning.models.attention import beit_attention, run_block
from conmim_lightning.models.backbones import Backbone
from conmim_lightning.models.relative_bias import RelativeBias
from conmim_lightning.weights.positions import resize_table

_TABLE = "relative_position_bias_table"
_SUPPORTED = {"norm1", "attn", "drop_path1", "norm2", "mlp", "drop_path2", "ls1", "ls2"}  # modules of a block


class DenseVit(nn.Module):
    """Feature maps of patch tokens after chosen blocks, without a final norm, as in BEiT's segmentation and ViTDet.

    The backbone is built for the size of pre-training. Its position tables are resized here to ``size``, as in the
    official fine-tuning; images of other sizes use parts or resized copies of them. With windows, most blocks attend
    within windows of the pre-training grid, so that their tables stay unchanged, and only a few blocks attend globally
    (ViTDet, arXiv 2203.16527; MIMDet, arXiv 2204.02964); the class token is then removed.

    Shapes: B images, C channels, H x W pixels divisible by the patch size, h x w patches, D width.

    Args:
        backbone: timm ``Beit`` (tables of relative positions in the blocks), ``VisionTransformer`` or ``Eva``; modules
            that are not needed (norm, classifier, blocks after the last one of ``out_indices``) are removed.
        size: pixels per side of the training images.
        out_indices: indices of the blocks to output, from 0, ascending.
        global_attn_blocks: indices of the blocks with global attention; null for all blocks, i.e. no windows.
        checkpointing: whether to recompute each block in the backward pass instead of storing its activations.

    Raises:
        ValueError: a number does not fit the backbone, or the backbone is of another family or shares one table.
    """

    def __init__(
        self,
        backbone: Backbone,
        *,
        size: int,
        out_indices: Sequence[int],
        global_attn_blocks: Sequence[int] | None = None,
        checkpointing: bool = False,
    ) -> None:
        super().__init__()
        _check_backbone(backbone)
        depth = len(backbone.blocks)
        for name, indices in (("out_indices", out_indices), ("global_attn_blocks", global_attn_blocks or [0])):
            if not indices or list(indices) != sorted(set(indices)) or not 0 <= indices[0] <= indices[-1] < depth:
                raise ValueError(f"{name} must be ascending indices of blocks, 0 to {depth - 1}, got {list(indices)}")
        self.patch_size, _ = cast(tuple[int, int], backbone.patch_embed.patch_size)
        if size % self.patch_size or size < self.patch_size:
            raise ValueError(f"size must be a multiple of the patch size {self.patch_size}, got {size}")
        self.size = size
        self.out_indices = list(out_indices)
        self.checkpointing = checkpointing
        self.embed_dim = backbone.embed_dim
        self.window = None if global_attn_blocks is None else backbone.patch_embed.grid_size[0]
        self.global_attn_blocks = set(range(depth) if global_attn_blocks is None else global_attn_blocks)
        self.num_prefix_tokens = backbone.num_prefix_tokens if self.window is None else 0
        backbone.prune_intermediate_layers([out_indices[-1]], prune_norm=True, prune_head=True)
        self._bias = RelativeBias(class_token=self.num_prefix_tokens > 0)
        self._rotations_by_grid: dict[tuple[int, int], Tensor] = {}
        self._fit_positions(backbone)
        self.backbone = backbone

    def forward(self, images: Tensor) -> list[Tensor]:
        """Map normalised (B, C, H, W) images to one (B, D, h, w) map per block of ``out_indices``."""
        if images.shape[-2] % self.patch_size or images.shape[-1] % self.patch_size:
            raise ValueError(f"images of {tuple(images.shape[-2:])} do not divide into patches of {self.patch_size}")
        embed = self.backbone.patch_embed
        patches = embed.norm(embed.proj(images).flatten(2).transpose(1, 2))
        grid = (images.shape[-2] // self.patch_size, images.shape[-1] // self.patch_size)
        tokens, maps = self._add_positions(patches, *grid), []
        for index, block in enumerate(self.backbone.blocks):
            window = None if index in self.global_attn_blocks else self.window
            if self.checkpointing and self.training:
                tokens = checkpoint(self._run, block, tokens, grid, window, use_reentrant=False)
                assert isinstance(tokens, Tensor)
            else:
                tokens = self._run(block, tokens, grid, window)
            if index in self.out_indices:
                maps.append(tokens[:, self.num_prefix_tokens :].transpose(1, 2).unflatten(2, grid))
        return maps

    def _add_positions(self, patches: Tensor, height: int, width: int) -> Tensor:
        """Add positions and prefix tokens: (B, N, D) patches to (B, T, D) tokens."""
        backbone = self.backbone
        if self.absolute is not None:
            positions = self.absolute
            if positions.shape[1] != height * width or height != width:
                side = round(positions.shape[1] ** 0.5)
                positions = resample_abs_pos_embed(
                    positions, [height, width], old_size=[side, side], num_prefix_tokens=0
                )
            patches = patches + positions
        if self.num_prefix_tokens:
            prefix = (backbone.cls_token, getattr(backbone, "reg_token", None))
            first = torch.cat([token for token in prefix if isinstance(token, Tensor)], 1)
            first = first if self.prefix_position is None else first + self.prefix_position
            patches = torch.cat([first.expand(patches.shape[0], -1, -1), patches], 1)  # len() is not traced
        tokens = backbone.pos_drop(patches)
        return backbone.norm_pre(tokens) if not isinstance(backbone, Beit) else tokens

    def _run(self, block: nn.Module, tokens: Tensor, grid: tuple[int, int], window: int | None) -> Tensor:
        """Run one block, with attention over all tokens or within windows."""

        def attend(attention: nn.Module, tokens: Tensor) -> Tensor:
            if window is None:
                return self._attend(attention, tokens, grid)
            windows, padded = window_partition(tokens.unflatten(1, grid), window)
            result = self._attend(attention, windows.flatten(1, 2), (window, window))
            return window_unpartition(result.unflatten(1, (window, window)), window, grid, padded).flatten(1, 2)

        return run_block(block, tokens, attend)

    def _attend(self, attention: nn.Module, tokens: Tensor, grid: tuple[int, int]) -> Tensor:
        if isinstance(attention, Attention):
            table = attention.relative_position_bias_table
            bias = None if table is None else self._bias(table, *grid)
            return beit_attention(attention, tokens, bias, "sdpa")
        if isinstance(self.backbone, Eva):
            return attention(tokens, rope=self._rotations(grid, tokens.device))
        return attention(tokens)

    def _rotations(self, grid: tuple[int, int], device: torch.device) -> Tensor | None:
        """Return the rotary position embeddings of a grid, which are cached; None if the backbone has none."""
        assert isinstance(self.backbone, Eva)
        rope: Any = self.backbone.rope
        if rope is None:
            return None
        if grid not in self._rotations_by_grid:
            with torch.inference_mode(False):  # training may follow
                rotations = rope.get_embed(shape=grid)
                if rotations.shape[-2] != grid[0] * grid[1]:  # timm stores the embeddings of a single grid
                    rope.update_feat_shape(list(grid))
                    rotations = rope.get_embed()
                self._rotations_by_grid[grid] = rotations.clone()
        self._rotations_by_grid[grid] = self._rotations_by_grid[grid].to(device)
        return self._rotations_by_grid[grid]

    def _fit_positions(self, backbone: Backbone) -> None:
        """Resize positions to ``size``; remove parameters that windows do not use, so that all have a gradient."""
        side = self.size // self.patch_size
        for index, block in enumerate(backbone.blocks):
            attention = block.get_submodule("attn")
            table = getattr(attention, _TABLE, None)
            if table is not None:
                attention.relative_position_index = None  # type: ignore[assignment]  # RelativeBias has its own index
                if index in self.global_attn_blocks:
                    setattr(attention, _TABLE, nn.Parameter(resize_table(table.detach(), (side, side))))
        self._fit_absolute(backbone, side)
        if self.window is not None:
            self._drop_prefix(backbone)

    @staticmethod
    def _drop_prefix(backbone: Backbone) -> None:
        """Remove the class token and register tokens, which windows do not use."""
        for token in ("cls_token", "reg_token"):
            if getattr(backbone, token, None) is not None:
                setattr(backbone, token, None)
        for block in backbone.blocks:
            attention = block.get_submodule("attn")
            if hasattr(attention, "num_prefix_tokens"):
                attention.num_prefix_tokens = 0  # type: ignore[assignment]

    def _fit_absolute(self, backbone: Backbone, side: int) -> None:
        """Resize the backbone's absolute positions to ``side`` x ``side`` patches and register them here."""
        self.absolute, self.prefix_position = None, None
        if getattr(backbone, "pos_embed", None) is None:
            return
        positions, backbone.pos_embed = backbone.pos_embed.detach(), None  # type: ignore[union-attr]
        prefix = positions.shape[1] - backbone.patch_embed.num_patches
        patches = resample_abs_pos_embed(positions[:, prefix:], [side, side], num_prefix_tokens=0)
        self.absolute = nn.Parameter(patches.clone())
        if prefix and self.num_prefix_tokens:
            self.prefix_position = nn.Parameter(positions[:, :prefix].clone())


def _check_backbone(backbone: Backbone) -> None:
    if not isinstance(backbone, Backbone):
        raise ValueError(f"backbone must be a timm Beit, VisionTransformer or Eva, got {type(backbone).__name__}")
    if getattr(backbone, "rel_pos_bias", None) is not None:
        raise ValueError(
            "backbone must have a table of relative positions in each block, not a shared one: "
            "backbone.shared_rel_pos_bias=false"
        )
    grid = backbone.patch_embed.grid_size
    unsupported = {name for name, _ in backbone.blocks[0].named_children()} - _SUPPORTED
    if grid[0] != grid[1] or unsupported or getattr(backbone, "rope_mixed", False):
        raise ValueError(
            f"backbone must have a square grid and plain blocks, got {grid[0]} x {grid[1]} patches, "
            f"{sorted(unsupported)}"
        )
