"""How many operations a training step takes, counted as torch runs it."""

import copy
from collections.abc import Callable
from typing import Any

from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeCopyMode, FakeTensorMode
from torch.utils.flop_counter import FlopCounterMode

from conmim_lightning.batches import PretrainBatch
from conmim_lightning.losses.patch_info_nce import hidden_first


def step_operations(task: Any, view: Tensor, mask: Tensor, most_hidden: int = 0) -> dict[str, int]:
    """Operations (a multiply-add counts 2) of products and convolutions by part; what is elementwise is not counted.

    Args:
        task: a ``PretrainTask``; its gradients are spoilt.
        view: (B, C, H, W).
        mask: (B, h, w) bool.
        most_hidden: see ``hidden_first``.

    Returns:
        "teacher", "student" (forward), "loss" and "backward", of the whole batch.
    """
    rows = hidden_first(mask, most_hidden)
    keys, teacher = _counted(lambda: task.model.teach(view))
    queries, student = _counted(lambda: task.model.student(view, mask, rows))
    loss, of_loss = _counted(lambda: task.loss(queries, keys, mask, rows))
    _, backward = _counted(lambda: loss.backward())
    return {"teacher": teacher, "student": student, "loss": of_loss, "backward": backward}


def counted_operations(task: Any, batch: PretrainBatch) -> dict[str, int]:
    """The same of a made batch, on tensors without values: at once, however large the model.

    Args:
        task: a ``PretrainTask``, which stays as it is.
        batch: made images.
    """
    view = task.perturbation(batch.crop, batch.perturbation)[0]
    mode = FakeTensorMode()
    with FakeCopyMode(mode):
        task, view, mask = copy.deepcopy((task, view, batch.mask))
    with mode:
        return step_operations(task, view, mask, batch.most_hidden)


def counted_parameters(branch: Any) -> dict[str, int]:
    """Numbers that are trained, of a student's "encoder" and "projector"."""
    return {
        part: sum(parameter.numel() for parameter in getattr(branch, part).parameters())
        for part in ("encoder", "projector")
    }


def operations_by_shape(task: Any, hidden: int) -> dict[str, float]:
    """Operations of a step an image, from the shapes of the weights alone.

    Of T tokens of width D, each linear weight takes 2 T times its entries and each block's attention 4 T^2 D; the
    backward pass takes twice the forward pass, but for the gradient of the pixels, which nobody wants.

    Args:
        task: a ``PretrainTask``.
        hidden: patches that the student does not see.

    Returns:
        "encoder" and "projector" of a forward pass of the student, "teacher" (forward, both), "loss" (forward), and
        the "step".
    """
    student, loss = task.model.student, task.loss
    backbone, patches = student.encoder.backbone, student.encoder.backbone.patch_embed.num_patches
    tokens = patches + student.encoder.num_prefix_tokens
    pixels = 2 * patches * backbone.patch_embed.proj.weight.numel()
    attention = 4 * tokens**2 * backbone.embed_dim * len(backbone.blocks)
    encoder = pixels + attention + 2 * tokens * _linear(backbone.blocks)
    everything = student.projected == "all"
    mine, theirs = (tokens, tokens) if everything else (hidden, patches)
    projector, theirs = 2 * mine * _linear(student.projector), 2 * theirs * _linear(student.projector)
    width = [layer for layer in student.projector.modules() if isinstance(layer, nn.Linear)][-1].out_features
    products = 2 * hidden * patches * width * (2 if loss.similarity_filter is not None else 1)
    backward = 2 * (encoder + projector) - pixels + 2 * hidden * patches * width
    again = encoder - pixels if student.encoder.checkpointing else 0
    step = encoder + projector + encoder + theirs + products + backward + again
    return {
        "encoder": encoder, "projector": projector, "teacher": encoder + theirs, "loss": products, "step": step,
    }  # fmt: skip


def _linear(module: nn.Module) -> int:
    """Entries of all weights of linear layers."""
    return sum(layer.weight.numel() for layer in module.modules() if isinstance(layer, nn.Linear))


def _counted(call: Callable[[], Any]) -> tuple[Any, int]:
    """What a call returns, and its operations."""
    with FlopCounterMode(display=False) as counter:
        result = call()
    return result, counter.get_total_flops()
