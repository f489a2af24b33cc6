"""Drawing of class maps and objects onto their image."""

import colorsys
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import torch
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.patches import Patch
from numpy.typing import NDArray
from torch import Tensor
from torchvision.utils import draw_bounding_boxes, draw_segmentation_masks

from conmim_lightning.batches import Detections, Objects
from conmim_lightning.files import replacing

Color = tuple[int, int, int]

_GOLDEN_RATIO = 0.618033988749895
_PANEL_PIXELS = 480
_DPI = 100
_DARKER = 0.5
_LEGEND_COLUMNS = 8
_LEGEND_INCHES = 0.25  # height of a row


def class_colors(count: int) -> list[Color]:
    """Return RGB colours of classes, 0 to 255; successive classes have distinct colours."""
    colors = []
    for index in range(count):
        saturation, value = (1.0, 0.6)[index // 7 % 2], (1.0, 0.75)[index // 3 % 2]
        red, green, blue = colorsys.hsv_to_rgb((index * _GOLDEN_RATIO) % 1, saturation, value)
        colors.append((int(red * 255), int(green * 255), int(blue * 255)))
    return colors


def as_rgb(pixels: Tensor) -> Tensor:
    """Convert (C, H, W) to (3, H, W)."""
    return (pixels[:3] if len(pixels) > 2 else pixels[:1]).expand(3, -1, -1)


def draw_classes(image: Tensor, classes: Tensor, alpha: float = 0.6) -> Tensor:
    """Draw the colours of the classes over the grey image.

    Args:
        image: (3, H, W) uint8.
        classes: (H, W) classes from 0; -1 = not coloured.
        alpha: opacity of the colours, 0 to 1.
    """
    grey = image.float().mean(0, keepdim=True).to(torch.uint8).expand(3, -1, -1)  # only classes have colours
    palette, result = class_colors(int(classes.max()) + 1), grey
    for label in classes[classes >= 0].unique().tolist():
        result = draw_segmentation_masks(result, classes == label, alpha=alpha, colors=palette[label])
    return result


def draw_errors(image: Tensor, wrong: Tensor) -> Tensor:
    """Draw wrong pixels white, which no class is, over the darkened grey image.

    Args:
        image: (3, H, W) uint8.
        wrong: (H, W) bool.
    """
    dark = (image.float().mean(0, keepdim=True) * _DARKER).to(torch.uint8).expand(3, -1, -1)
    return torch.where(wrong, torch.full_like(dark, 255), dark)


def figure_array(figure: Figure) -> NDArray[np.uint8]:
    """Return a figure as (H, W, 3) pixels."""
    canvas = FigureCanvasAgg(figure)
    canvas.draw()
    return np.asarray(canvas.buffer_rgba())[..., :3].copy()


def as_array(image: Tensor) -> NDArray[np.uint8]:
    """Convert (3, H, W) uint8 to an (H, W, 3) array."""
    return image.permute(1, 2, 0).contiguous().numpy()


def draw_objects(
    image: Tensor, objects: Detections | Objects, names: Sequence[str], scores: Sequence[float] | None = None
) -> Tensor:
    """Draw boxes, masks, names and scores.

    Args:
        image: (3, H, W) uint8.
        objects: objects in coordinates of the image.
        names: names of the classes.
        scores: scores of the objects; None for annotations.
    """
    labels, boxes = [int(label) for label in objects.labels], objects.boxes
    if not labels:
        return image
    palette = class_colors(len(names))
    colors: list[str | Color] = [palette[label] for label in labels]
    if len(objects.masks):
        image = draw_segmentation_masks(image, objects.masks.bool(), alpha=0.5, colors=colors)
    scale = max(1, round(_PANEL_PIXELS / image.shape[2]))  # so that text is readable on small images
    image = image.repeat_interleave(scale, 1).repeat_interleave(scale, 2)
    texts = [names[label] for label in labels]
    if scores is not None:
        texts = [f"{text} {score:.2f}" for text, score in zip(texts, scores, strict=True)]
    corners = boxes * scale
    corners[:, 2:] = torch.maximum(corners[:, 2:] - 1, corners[:, :2])
    return draw_bounding_boxes(image, corners, texts, colors=colors, width=2, fill_labels=True)


def save_panels(panels: Sequence[tuple[str, Tensor]], path: Path, legend: Mapping[str, Color] | None = None) -> None:
    """Write a PNG with images side by side, their titles, and a legend below.

    Args:
        panels: title and (3, H, W) uint8 image of each panel; sizes may differ by a factor.
        path: file to write.
        legend: colour by name.
    """
    height, width = panels[0][1].shape[1:]
    names = legend or {}
    rows = -(-len(names) // _LEGEND_COLUMNS)
    inches = _PANEL_PIXELS / _DPI
    size = (inches * len(panels), inches * height / width + 0.4 + _LEGEND_INCHES * rows)
    figure = Figure(figsize=size, dpi=_DPI, layout="constrained")
    FigureCanvasAgg(figure)
    for axes, (title, image) in zip(figure.subplots(1, len(panels), squeeze=False)[0], panels, strict=True):
        axes.set_axis_off()
        axes.set_title(title, fontsize=10)
        axes.imshow(image.permute(1, 2, 0).numpy(), interpolation="nearest")
    if names:
        handles = [
            Patch(color=(red / 255, green / 255, blue / 255), label=name) for name, (red, green, blue) in names.items()
        ]
        figure.legend(handles=handles, loc="outside lower left", ncols=_LEGEND_COLUMNS, fontsize=8)
    path.parent.mkdir(parents=True, exist_ok=True)
    with replacing(path) as temporary:
        figure.savefig(temporary)
