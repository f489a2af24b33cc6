"""FLOP of a training step, as torch counts them."""

import copy
from collections.abc import Callable
from typing import TYPE_CHECKING, TypeVar

from torch import Tensor
from torch._subclasses.fake_tensor import FakeCopyMode, FakeTensorMode
from torch.utils.flop_counter import FlopCounterMode

from conmim_lightning.batches import PretrainBatch
from conmim_lightning.losses.patch_info_nce import hidden_patch_indices
from conmim_lightning.models.conmim import Branch

if TYPE_CHECKING:
    from conmim_lightning.tasks.pretrain import PretrainTask

T = TypeVar("T")


def step_flops(task: "PretrainTask", view: Tensor, mask: Tensor, max_hidden: int = 0) -> dict[str, int]:
    """FLOP (a multiply-add counts 2) of matrix products and convolutions by phase, without elementwise operations.

    Args:
        task: its gradients are overwritten.
        view: (B, C, H, W).
        mask: (B, h, w) bool.
        max_hidden: see ``hidden_patch_indices``.

    Returns:
        "teacher", "encoder" and "projector" (the student's forward pass), "loss" and "backward", of the whole batch.
    """
    indices = hidden_patch_indices(mask, max_hidden)
    keys, teacher = _count(lambda: task.model.teach(view))
    with FlopCounterMode(display=False) as student:
        queries = task.model.student(view, mask, indices)
    encoder = sum(student.get_flop_counts()["Branch.encoder"].values())
    loss, loss_flops = _count(lambda: task.loss(queries, keys, mask, indices))
    _, backward = _count(lambda: loss.backward())
    projector = student.get_total_flops() - encoder
    return {"teacher": teacher, "encoder": encoder, "projector": projector, "loss": loss_flops, "backward": backward}


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
        return step_flops(task, view, mask, batch.max_hidden)


def count_parameters(branch: Branch) -> dict[str, int]:
    """Trained parameters of a branch's "encoder" and "projector"."""
    modules = {"encoder": branch.encoder, "projector": branch.projector}
    return {name: sum(parameter.numel() for parameter in module.parameters()) for name, module in modules.items()}


def _count(call: Callable[[], T]) -> tuple[T, int]:
    """Result of a call, and its FLOP."""
    with FlopCounterMode(display=False) as counter:
        result = call()
    return result, counter.get_total_flops()
