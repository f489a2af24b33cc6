"""Figure of a pre-training run: curves, and per image the views, the mask and similarity maps."""

import math
from pathlib import Path
from typing import Any, NamedTuple

import torch
from lightning.fabric.utilities import move_data_to_device
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from torch import Tensor
from torch.nn import functional as F

from conmim_lightning.batches import PretrainBatch
from conmim_lightning.callbacks.online_probe import OnlineProbe
from conmim_lightning.callbacks.reports.drawing import as_rgb
from conmim_lightning.files import replacing

History = list[dict[str, float]]


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


def image_rows(pl_module: Any, batch: PretrainBatch, probe: OnlineProbe | None) -> list[ImageRow]:
    """Return views, similarity maps and probe maps of a batch; the model is in training mode.

    Args:
        pl_module: pre-training task.
        batch: held-out crops.
        probe: callback with the dense probe; None for no object maps.
    """
    batch = move_data_to_device(batch, pl_module.device)
    student_view, teacher_view = pl_module.perturbation(batch.crop, batch.perturbation)
    model = pl_module.model
    queries = F.normalize(model.student(student_view, batch.mask).float(), dim=-1)
    keys = F.normalize(model.teach(teacher_view).float(), dim=-1)
    similarity = queries @ keys.transpose(1, 2)  # (B, N, N)
    object_map = None
    if probe is not None and probe.dense is not None:
        tokens = model.teacher_encoder.patch_tokens(student_view, probe.block)
        object_map = probe.dense.object_probability(tokens).cpu()
    rows = []
    for i, mask in enumerate(batch.mask.cpu()):
        hidden = mask.flatten().nonzero().squeeze(1)
        chosen = int(hidden[len(hidden) // 2])
        rows.append(
            ImageRow(
                student_view=_as_image(pl_module, student_view[i], mask),
                mask=mask,
                teacher_view=_as_image(pl_module, teacher_view[i], None),
                query=divmod(chosen, mask.shape[1]),
                similarity=similarity[i, chosen].view_as(mask).cpu(),
                object_map=None if object_map is None else object_map[i].view_as(mask),
            )
        )
    return rows


def _as_image(pl_module: Any, view: Tensor, mask: Tensor | None) -> Tensor:
    perturbation = pl_module.perturbation
    image = ((view * perturbation.std[0] + perturbation.mean[0]) / 255).clamp(0, 1).cpu()
    if mask is not None:
        hidden = F.interpolate(mask[None, None].float(), size=image.shape[1:])[0]
        image = image * (1 - hidden) + 0.5 * hidden
    return as_rgb(image).permute(1, 2, 0)


def draw_report(path: Path, curves: History, probes: History, images: list[ImageRow]) -> None:
    """Write the figure.

    Args:
        path: PNG file to write.
        curves: metrics of the pretext task by step.
        probes: metrics of the features by step; the first entry holds the baselines.
        images: one row each.
    """
    names = ("dense_auroc_object", "dense_auroc_border", "dense_auroc_class", "knn_top1")
    probed = [name for name in names if probes and f"val/{name}" in probes[0]]
    columns = 6
    plots = 2 + len(probed)
    rows = math.ceil(plots / 3) + len(images)
    figure = Figure(figsize=(15, 2.6 * rows), layout="constrained")
    grid = figure.add_gridspec(rows, columns)
    axes = [figure.add_subplot(grid[i // 3, 2 * (i % 3) : 2 * (i % 3) + 2]) for i in range(plots)]
    _draw_curves(axes[0], curves, {"train/loss": "loss (nats)"})
    _draw_curves(
        axes[1],
        curves,
        {"train/retrieval_top1": "retrieval top-1", "train/position_only_top1": "position only"},
    )
    fraction = axes[1].twinx()
    _draw_curves(fraction, curves, {"train/position_only_fraction": "position-only fraction"}, style="k:")
    fraction.set_ylim(bottom=0)
    for axis, name in zip(axes[2:], probed, strict=True):
        _draw_probe(axis, probes, name)
    for row, image in enumerate(images, start=rows - len(images)):
        cells = [figure.add_subplot(grid[row, column]) for column in range(columns)]
        _draw_row(cells, image, titled=row == rows - len(images))
    with replacing(path) as temporary:
        figure.savefig(temporary, dpi=80)


def _draw_curves(axis: Axes, curves: History, names: dict[str, str], style: str = "-") -> None:
    for key, label in names.items():
        points = [(entry["step"], entry[key]) for entry in curves if key in entry]
        axis.plot(*zip(*points, strict=True) if points else ((), ()), style, label=label)
    axis.set_xlabel("step")
    axis.legend(loc="upper left" if style == "-" else "lower right")


def _draw_probe(axis: Axes, probes: History, name: str) -> None:
    key = f"val/{name}"
    points = [(entry["step"], 100 * entry[key]) for entry in probes if key in entry]
    axis.plot(*zip(*points, strict=True), marker="o", label="teacher")
    for suffix, label, style in (("_start", "initial weights", "--"), ("_pixels", "raw pixels", ":")):
        axis.axhline(100 * probes[0].get(key + suffix, math.nan), linestyle=style, color="grey", label=label)
    axis.set_title(name.replace("_", " ") + " (%)")
    axis.set_xlabel("step")
    axis.legend()


def _draw_row(cells: list[Axes], image: ImageRow, *, titled: bool) -> None:
    titles = (
        "student view",
        "mask (white: hidden)",
        "teacher view",
        "similarity of □ to keys",
        "five nearest keys",
        "object probability",
    )
    row, column = image.query
    best = torch.zeros_like(image.similarity)
    best.view(-1)[image.similarity.view(-1).topk(5).indices] = 1
    shown: list[tuple[Tensor | None, str]] = [
        (image.student_view, "gray"),
        (image.mask, "gray"),
        (image.teacher_view, "gray"),
        (image.similarity, "viridis"),
        (best, "gray"),
        (image.object_map, "magma"),
    ]
    for cell, title, (values, colormap) in zip(cells, titles, shown, strict=True):
        cell.set_axis_off()
        if values is None:
            continue
        cell.imshow(values.numpy(), cmap=colormap)
        if titled:
            cell.set_title(title, fontsize=10)
    for cell in (cells[3], cells[4]):
        cell.plot(column, row, marker="s", markersize=9, markerfacecolor="none", markeredgecolor="red")
