"""FLOP of a training step, by shape and as torch counts them."""

import copy
from collections.abc import Callable
from typing import TYPE_CHECKING, TypeVar

from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeCopyMode, FakeTensorMode
from torch.utils.flop_counter import FlopCounterMode

from conmim_lightning.batches import PretrainBatch
from conmim_lightning.losses.patch_info_nce import hidden_first
from conmim_lightning.models.conmim import Branch

if TYPE_CHECKING:
    from conmim_lightning.tasks.pretrain import PretrainTask

T = TypeVar("T")


def step_flops(task: "PretrainTask", view: Tensor, mask: Tensor, most_hidden: int = 0) -> dict[str, int]:
    """FLOP (a multiply-add counts 2) of matrix products and convolutions by phase, without elementwise operations.

    Args:
        task: its gradients are overwritten.
        view: (B, C, H, W).
        mask: (B, h, w) bool.
        most_hidden: see ``hidden_first``.

    Returns:
        "teacher", "student" (forward), "loss" and "backward", of the whole batch.
    """
    rows = hidden_first(mask, most_hidden)
    keys, teacher = _count(lambda: task.model.teach(view))
    queries, student = _count(lambda: task.model.student(view, mask, rows))
    loss, loss_flops = _count(lambda: task.loss(queries, keys, mask, rows))
    _, backward = _count(lambda: loss.backward())
    return {"teacher": teacher, "student": student, "loss": loss_flops, "backward": backward}


def count_flops(task: "PretrainTask", batch: PretrainBatch) -> dict[str, int]:
    """FLOP of a batch by phase, on tensors without values, so that any model is counted at once.

    Args:
        task: is not changed.
        batch: of images.
    """
    view = task.perturbation(batch.crop, batch.perturbation)[0]
    mode = FakeTensorMode()
    with FakeCopyMode(mode):
        task, view, mask = copy.deepcopy((task, view, batch.mask))
    with mode:
        return step_flops(task, view, mask, batch.most_hidden)


def count_parameters(branch: Branch) -> dict[str, int]:
    """Trained parameters of a branch's "encoder" and "projector"."""
    modules = {"encoder": branch.encoder, "projector": branch.projector}
    return {name: sum(parameter.numel() for parameter in module.parameters()) for name, module in modules.items()}


def flops_by_shape(task: "PretrainTask", hidden: int) -> dict[str, float]:
    """FLOP of a step per image, from the shapes of the weights alone.

    With T tokens of width D, each linear weight takes 2 T times its entries and each block's attention 4 T^2 D; the
    backward pass takes twice the forward pass, except for the gradient of the pixels, which nothing needs.

    Args:
        task: with ``PatchInfoNCE``.
        hidden: patches hidden from the student.

    Returns:
        "encoder" and "projector" of the student's forward pass, "teacher" (forward, both), "loss" (forward), and the
        whole "step".
    """
    student = task.model.student
    backbone = student.encoder.backbone
    patches = backbone.patch_embed.num_patches
    tokens = patches + student.encoder.num_prefix_tokens
    pixels = 2 * patches * backbone.patch_embed.proj.weight.numel()
    attention = 4 * tokens**2 * backbone.embed_dim * len(backbone.blocks)
    encoder = pixels + attention + 2 * tokens * _linear_entries(backbone.blocks)
    queries, keys = (tokens, tokens) if student.project == "all" else (hidden, patches)
    projector, teacher_projector = (2 * count * _linear_entries(student.projector) for count in (queries, keys))
    width = [layer for layer in student.projector.modules() if isinstance(layer, nn.Linear)][-1].out_features
    filtered = getattr(task.loss, "similarity_filter", None) is not None
    loss = 2 * hidden * patches * width * (2 if filtered else 1)
    backward = 2 * (encoder + projector) - pixels + 2 * hidden * patches * width
    recomputed = encoder - pixels if student.encoder.checkpointing else 0
    return {
        "encoder": encoder,
        "projector": projector,
        "teacher": encoder + teacher_projector,
        "loss": loss,
        "step": 2 * encoder + projector + teacher_projector + loss + backward + recomputed,
    }


def _linear_entries(module: nn.Module) -> int:
    """Entries of all weights of linear layers."""
    return sum(layer.weight.numel() for layer in module.modules() if isinstance(layer, nn.Linear))


def _count(call: Callable[[], T]) -> tuple[T, int]:
    """Result of a call, and its FLOP."""
    with FlopCounterMode(display=False) as counter:
        result = call()
    return result, counter.get_total_flops()
