"""The pretext task on images: where hidden patches match."""

from typing import Any

import torch

from conmim_lightning.batches import PretrainBatch
from conmim_lightning.visualization.panels import Panel


@torch.no_grad()
def query_panels(task: Any, batch: PretrainBatch) -> list[list[Panel]]:
    """Return, per image, both views, and where each hidden patch matches.

    A square marks a patch whose own key is the most similar to its query. From every other hidden patch, an arrow leads
    to the patch whose key is. The projector has the batch norm of training, so that the result depends on the batch.

    Args:
        task: pre-training task.
        batch: crops on the device of the task.
    """
    student_view, teacher_view = task.perturbation(batch.crop, batch.perturbation)
    nearest = task.similarity(student_view, teacher_view, batch.mask).argmax(-1).cpu()  # (B, N)
    panels = []
    for index, mask in enumerate(batch.mask.cpu()):
        grid = (mask.shape[0], mask.shape[1])
        hidden = mask.flatten().nonzero().squeeze(1)
        matched = nearest[index, hidden]
        right = matched == hidden
        own = [divmod(position, grid[1]) for position in hidden[right].tolist()]
        wrong = zip(hidden[~right].tolist(), matched[~right].tolist(), strict=True)
        arrows = [(divmod(start, grid[1]), divmod(end, grid[1])) for start, end in wrong]
        student = task.perturbation.as_image(student_view[index])
        covered = mask.repeat_interleave(student.shape[0] // grid[0], 0).repeat_interleave(
            student.shape[1] // grid[1], 1
        )
        teacher = task.perturbation.as_image(teacher_view[index])
        title = f"{int(right.sum())} of {len(hidden)} match"
        panels.append(
            [
                Panel(torch.where(covered[..., None], 0.5, student), "student view"),
                Panel(teacher, "teacher view"),
                Panel(teacher, title, marks=own, grid=grid, arrows=arrows),
            ]
        )
    return panels
