"""FLOP of a training step, as torch counts them."""

import copy
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, TypeVar

import torch
from torch import Tensor
from torch._subclasses.fake_tensor import FakeCopyMode, FakeTensorMode
from torch.utils.flop_counter import FlopCounterMode, flop_registry, sdpa_backward_flop_count, sdpa_flop_count

from conmim_lightning.batches import PretrainBatch
from conmim_lightning.losses.hidden_patches import hidden_patch_indices
from conmim_lightning.models.conmim import Branch

if TYPE_CHECKING:
    from conmim_lightning.tasks.pretrain import PretrainTask

T = TypeVar("T")


def step_flops(task: "PretrainTask", view: Tensor, mask: Tensor, max_hidden: int = 0) -> dict[str, int]:
    """Return FLOP by phase (a multiply-add counts 2), of matrix products and convolutions, not elementwise operations.

    Args:
        task: pre-training task; its gradients are overwritten.
        view: (B, C, H, W), used as both views.
        mask: (B, h, w) bool.
        max_hidden: see ``hidden_patch_indices``.

    Returns:
        "teacher", "encoder" and "projector" (the student's forward pass), "loss" and "backward", for the whole batch.
    """
    indices = hidden_patch_indices(mask, max_hidden)
    keys, teacher = _count(lambda: task.model.teach(view))
    with _counter() as student:
        queries = task.model.student(view, mask, indices)
    encoder = sum(student.get_flop_counts()["Branch.encoder"].values())
    loss, loss_flops = _count(lambda: task.loss(queries, keys, mask, indices))
    _, backward = _count(lambda: loss.backward())
    projector = student.get_total_flops() - encoder
    return {"teacher": teacher, "encoder": encoder, "projector": projector, "loss": loss_flops, "backward": backward}


def count_flops(task: "PretrainTask", batch: PretrainBatch) -> dict[str, int]:
    """Return the FLOP of a batch by phase, counted on tensors without data, which is fast for any model size.

    Args:
        task: pre-training task, which is not changed.
        batch: batch whose shapes are used.
    """
    view = task.perturbation(batch.crop, batch.perturbation)[0]
    mode = FakeTensorMode()
    with FakeCopyMode(mode):
        task, view, mask = copy.deepcopy((task, view, batch.mask))
    with mode:
        return step_flops(task, view, mask, batch.max_hidden)


def count_parameters(branch: Branch) -> dict[str, int]:
    """Return the numbers of trained parameters of a branch's "encoder" and "projector"."""
    modules = {"encoder": branch.encoder, "projector": branch.projector}
    return {name: sum(parameter.numel() for parameter in module.parameters()) for name, module in modules.items()}


def _counter() -> FlopCounterMode:
    """Return a counter that also counts fused attention on a CPU, which torch does from 2.12 on."""
    forward = torch.ops.aten._scaled_dot_product_flash_attention_for_cpu
    backward = torch.ops.aten._scaled_dot_product_flash_attention_for_cpu_backward
    formulas: dict[Any, Any] = {
        forward: lambda query, key, value, *others, **options: sdpa_flop_count(query, key, value),
        backward: lambda gradient, query, key, value, *others, **options: sdpa_backward_flop_count(
            gradient, query, key, value
        ),
    }
    missing = {operation: formula for operation, formula in formulas.items() if operation not in flop_registry}
    return FlopCounterMode(display=False, custom_mapping=missing)


def _count(call: Callable[[], T]) -> tuple[T, int]:
    """Return the result of a call and its FLOP."""
    with _counter() as counter:
        result = call()
    return result, counter.get_total_flops()
