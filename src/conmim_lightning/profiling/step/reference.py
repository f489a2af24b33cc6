"""Training step with the same operations as the official code: the baseline for speed, and a check of results.

Attention computes logits, adds the bias and takes a softmax; the loss computes logits of all patches, hidden or not;
optimizer, clipping and teacher update loop over parameters. This is an independent implementation on the weights of a
``ConMIM``, so that tests can compare both. It has no drop path: compare with ``drop_path_rate=0``.

Shapes: B images, K patches, T = 1 + K tokens, D width, H heads, C projected width.
"""

from collections.abc import Sequence
from typing import Any, cast

import torch
import torch.nn.functional as F
from timm.models.beit import Attention, Beit
from torch import Tensor, nn

from conmim_lightning.models.conmim import Branch, ConMIM
from conmim_lightning.profiling.step.train_step import DTYPES


def reference_branch(branch: Branch, view: Tensor, mask: Tensor | None = None) -> Tensor:
    """Run encoder and projector of one branch: (B, 3, H, W) view and (B, h, w) mask -> (B, K, C).

    Args:
        branch: branch on a timm ``Beit`` with a shared table of relative positions.
        view: normalised images.
        mask: True = hidden.
    """
    encoder = branch.encoder
    backbone: Any = encoder.backbone
    embedding = backbone.patch_embed.proj
    patches = F.conv2d(view, embedding.weight, embedding.bias, stride=embedding.stride).flatten(2).transpose(1, 2)
    if mask is not None:
        hidden = mask.flatten(1).unsqueeze(-1).type_as(patches)
        patches = patches * (1 - hidden) + encoder.mask_token.expand_as(patches) * hidden
    tokens = torch.cat([backbone.cls_token.expand(len(view), -1, -1), patches], 1)  # (B, T, D)
    shared = backbone.rel_pos_bias
    bias = shared.relative_position_bias_table[shared.relative_position_index.view(-1)]
    bias = bias.view(tokens.shape[1], tokens.shape[1], -1).permute(2, 0, 1).contiguous()  # (H, T, T)
    for block in backbone.blocks:
        tokens = tokens + block.gamma_1 * _attention(block.attn, block.norm1(tokens), bias)
        mlp = F.gelu(block.mlp.fc1(block.norm2(tokens)))
        tokens = tokens + block.gamma_2 * block.mlp.fc2(mlp)
    projected = backbone.norm(tokens).flatten(0, 1)
    for layer in branch.projector.get_submodule("layers").children():
        projected = layer(projected)
    return projected.unflatten(0, tokens.shape[:2])[:, 1:]


def _attention(attention: Attention, tokens: Tensor, bias: Tensor) -> Tensor:
    """Compute logits, bias, softmax and values; (B, T, D) -> (B, T, D)."""
    batch, count, _ = tokens.shape
    assert attention.q_bias is not None
    assert attention.v_bias is not None
    qkv_bias = torch.cat((attention.q_bias, torch.zeros_like(attention.v_bias), attention.v_bias))
    heads = F.linear(tokens, attention.qkv.weight, qkv_bias).reshape(batch, count, 3, attention.num_heads, -1)
    query, key, value = heads.permute(2, 0, 3, 1, 4)  # each (B, H, T, D / H)
    logits = (query * attention.scale) @ key.transpose(-2, -1)
    weights = (logits + bias).softmax(-1)
    return attention.proj((weights @ value).transpose(1, 2).reshape(batch, count, -1))


def reference_loss(queries: Tensor, keys: Tensor, mask: Tensor, temperature: float) -> Tensor:
    """Compute all logits (B, K, K); return the mean cross-entropy of the rows of hidden patches."""
    wide = torch.promote_types(queries.dtype, torch.float32)
    queries, keys = F.normalize(queries.to(wide), dim=-1), F.normalize(keys.to(wide), dim=-1)
    logits = torch.einsum("bqc,bkc->bqk", queries, keys) / temperature
    labels = torch.arange(logits.shape[1], device=logits.device).repeat(len(logits), 1)
    hidden = mask.flatten(1)
    return F.cross_entropy(logits[hidden], labels[hidden])


class ReferenceStep:
    """One training step, from views to the teacher's update.

    Args:
        model: student and teacher to train, on a ``Beit``, see ``reference_branch``.
        optimizer: optimizer of the student's parameters, without ``fused`` and ``foreach``.
        temperature: temperature of the loss.
        max_grad_norm: largest global norm of the gradient; None for no clipping.
        precision: "32-true", "bf16-mixed" or "16-mixed"; "16-mixed" uses a loss scaler and needs a GPU.

    Raises:
        ValueError: the model is of another family.
    """

    def __init__(
        self,
        model: ConMIM,
        optimizer: torch.optim.Optimizer,
        *,
        temperature: float,
        max_grad_norm: float | None,
        precision: str,
    ) -> None:
        backbone: nn.Module = model.student.encoder.backbone
        if not isinstance(backbone, Beit) or backbone.rel_pos_bias is None:
            raise ValueError(
                "the reference step needs a Beit with a shared table of relative positions; for other backbones set "
                "benchmark.variants=[ours]"
            )
        self.model, self.optimizer = model, optimizer
        self.temperature, self.max_grad_norm = temperature, max_grad_norm
        self.device = next(model.parameters()).device
        self.dtype = DTYPES[precision]
        self.scaler = torch.GradScaler(self.device.type, enabled=self.dtype is torch.float16)

    def __call__(self, views: Sequence[Tensor], mask: Tensor, momentum: float) -> float:
        """Train on [student view, teacher view] and a mask; return the loss."""
        student, teacher = self.model.student, self.model.teacher.branch
        with torch.autocast(self.device.type, self.dtype or torch.bfloat16, enabled=self.dtype is not None):
            with torch.no_grad():
                keys = reference_branch(cast(Branch, teacher), views[1])
            queries = reference_branch(student, views[0], mask)
        loss = reference_loss(queries, keys, mask, self.temperature)
        value = loss.item()  # official: read in every step, which waits for the device
        self.optimizer.zero_grad()
        self.scaler.scale(loss).backward()
        self.scaler.unscale_(self.optimizer)
        _clip(student, self.max_grad_norm)
        self.scaler.step(self.optimizer)
        self.scaler.update()
        with torch.no_grad():
            trained = dict(student.named_parameters())
            for name, parameter in teacher.named_parameters():
                parameter.mul_(momentum).add_((1 - momentum) * trained[name].detach())
        return value


def _clip(module: nn.Module, limit: float | None) -> None:
    """Clip the global gradient norm in a loop over parameters."""
    gradients = [parameter.grad for parameter in module.parameters() if parameter.grad is not None]
    norm = torch.stack([torch.linalg.vector_norm(gradient) for gradient in gradients]).norm()
    if limit is not None:
        scale = (limit / (norm + 1e-6)).clamp(max=1.0)
        for gradient in gradients:
            gradient.mul_(scale)
