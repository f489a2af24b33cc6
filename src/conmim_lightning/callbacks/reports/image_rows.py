"""What a figure shows of an image: views, mask, similarity and probe map."""

from typing import Any, NamedTuple

import torch
from lightning.fabric.utilities import move_data_to_device
from torch import Tensor
from torch.nn import functional as F

from conmim_lightning.batches import PretrainBatch
from conmim_lightning.callbacks.online_probe import OnlineProbe


class ImageRow(NamedTuple):
    """The panels of one image, a row of the figure.

    Attributes:
        student_view: (H, W, 3) in [0, 1], hidden patches grey.
        mask: (h, w) bool.
        teacher_view: (H, W, 3) in [0, 1].
        query: row and column of the hidden patch whose query is shown.
        similarity: (h, w) cosine of that query with every key.
        object_map: (h, w) probability of an object by the dense probe; None without a probe.
    """

    student_view: Tensor
    mask: Tensor
    teacher_view: Tensor
    query: tuple[int, int]
    similarity: Tensor
    object_map: Tensor | None


@torch.no_grad()
def image_rows(pl_module: Any, batch: PretrainBatch, probe: OnlineProbe | None) -> list[ImageRow]:
    """Return views, similarity maps and probe maps of a batch, without effect on the model.

    Args:
        pl_module: pre-training task.
        batch: held-out crops.
        probe: callback with the dense probe; None for no object maps.
    """
    batch = move_data_to_device(batch, pl_module.device)
    with torch.compiler.set_stance("force_eager"):  # of another size than in training, or on another device
        student_view, teacher_view = pl_module.perturbation(batch.crop, batch.perturbation)
    similarity = pl_module.similarity(student_view, teacher_view, batch.mask).cpu()  # (B, N, N)
    object_map = None
    if probe is not None and probe.dense is not None:
        with torch.compiler.set_stance("force_eager"):
            tokens = pl_module.model.teacher_encoder.patch_tokens(student_view, probe.block)
        object_map = probe.dense.object_probability(tokens).cpu()
    rows = []
    for i, mask in enumerate(batch.mask.cpu()):
        hidden = mask.flatten().nonzero().squeeze(1)
        chosen = int(hidden[len(hidden) // 2])
        rows.append(
            ImageRow(
                student_view=_covered(pl_module.perturbation.as_image(student_view[i]), mask),
                mask=mask,
                teacher_view=pl_module.perturbation.as_image(teacher_view[i]),
                query=divmod(chosen, mask.shape[1]),
                similarity=similarity[i, chosen].view_as(mask),
                object_map=None if object_map is None else object_map[i].view_as(mask),
            )
        )
    return rows


def _covered(image: Tensor, mask: Tensor) -> Tensor:
    """Return an (H, W, 3) image with grey hidden patches."""
    hidden = F.interpolate(mask[None, None].float(), size=image.shape[:2])[0, 0, :, :, None]
    return image * (1 - hidden) + 0.5 * hidden
