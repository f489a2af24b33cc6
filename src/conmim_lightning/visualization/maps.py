"""Maps of a model over images: attention, similarity of patches, principal components."""

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn import functional as F

from conmim_lightning.inference.models import LoadedEncoder
from conmim_lightning.models.attention_maps import attention_maps
from conmim_lightning.visualization.inputs import Inputs, patch_of
from conmim_lightning.visualization.panels import Panel, limits_of

_COMPONENTS = 3


def attention_panels(
    model: LoadedEncoder,
    inputs: Inputs,
    *,
    layer: int = -1,
    heads: Sequence[int] | None = None,
    patch: Sequence[int] | None = None,
) -> list[list[Panel]]:
    """Return, per image, the attention of the class token, or of a patch, to all patches, one panel per head.

    Args:
        model: model with H heads.
        inputs: images.
        layer: block, from 0; negative numbers count from the last.
        heads: heads to show, from 0; None for all.
        patch: row and column of the patch that attends; None for the class token, or without one for the centre.

    Raises:
        ValueError: the model has no such layer, head or patch.
    """
    weights = attention_maps(model.backbone, inputs.images, layer)  # (B, H, T, T)
    shown = range(weights.shape[1]) if heads is None else heads
    if not shown:
        raise ValueError("heads must name at least one head, or be null for all")
    if unknown := [head for head in shown if not 0 <= head < weights.shape[1]]:
        raise ValueError(f"heads must be from 0 to {weights.shape[1] - 1}, got {unknown}")
    prefix, (rows, columns) = model.backbone.num_prefix_tokens, _grid(model)
    of_patch = patch is not None or getattr(model.backbone, "cls_token", None) is None
    row, column = patch_of(model, patch)
    attending = prefix + row * columns + column if of_patch else 0
    maps = weights[:, :, attending, prefix:].unflatten(2, (rows, columns))
    marks = [(row, column)] if of_patch else []
    name = "patch" if of_patch else "class token"
    panels = []
    for image, of_image in zip(inputs.shown, maps, strict=True):
        limits = limits_of(list(of_image[list(shown)]), low=0.0)
        own = [
            Panel(image, f"head {head}", of_image[head], limits, f"attention of the {name}", marks, (rows, columns))
            for head in shown
        ]
        panels.append([Panel(image, "image", marks=marks, grid=(rows, columns)), *own])
    return panels


def similarity_panels(model: LoadedEncoder, inputs: Inputs, *, patch: Sequence[int] | None = None) -> list[list[Panel]]:
    """Return, per image, the cosines of a patch with all patches of the image, and of the next image.

    The scale reaches from 0, or the smallest cosine if it is negative, to 1.

    Args:
        model: model.
        inputs: images.
        patch: row and column; None for the central patch.
    """
    tokens = F.normalize(model.patch_features(inputs.images).cpu(), dim=-1)  # (B, h, w, D)
    row, column = patch_of(model, patch)
    grid, panels = _grid(model), []
    for index, image in enumerate(inputs.shown):
        others = [index] if len(inputs.shown) == 1 else [index, (index + 1) % len(inputs.shown)]
        maps = [tokens[other] @ tokens[index, row, column] for other in others]
        limits = limits_of(maps, low=0.0, high=1.0)
        own = [Panel(image, "patch", marks=[(row, column)], grid=grid)]
        for other, values, title in zip(others, maps, ("same image", "next image"), strict=False):
            marks = [(row, column)] if other == index else []
            own.append(Panel(inputs.shown[other], title, values, limits, "cosine", marks, grid))
        panels.append(own)
    return panels


def component_panels(model: LoadedEncoder, inputs: Inputs) -> tuple[list[list[Panel]], Tensor]:
    """Return, per image, three principal components of all patch tokens as red, green and blue.

    The components are those of the tokens of all images, and so is the scale: from the 1st to the 99th percentile.

    Returns:
        Panels, and the fraction of the variance of each component, (3,).
    """
    tokens = model.patch_features(inputs.images).cpu()  # (B, h, w, D)
    flat = tokens.flatten(0, 2).double()
    centred = flat - flat.mean(0)
    _, singular, directions = torch.linalg.svd(centred, full_matrices=False)
    fractions = singular.square() / singular.square().sum()
    directions = directions[:_COMPONENTS]
    largest = directions.gather(1, directions.abs().argmax(1, keepdim=True))
    scores = (centred @ (directions * largest.sign()).T).float()  # with a definite sign
    low, high = scores.quantile(0.01, 0), scores.quantile(0.99, 0)
    colors = ((scores - low) / (high - low).clamp(min=1e-12)).clamp(0, 1).view(*tokens.shape[:3], -1)
    colors = F.pad(colors, (0, _COMPONENTS - colors.shape[-1]))
    panels = [
        [Panel(image, "image"), Panel(color, "components")] for image, color in zip(inputs.shown, colors, strict=True)
    ]
    return panels, fractions[:_COMPONENTS]


def _grid(model: LoadedEncoder) -> tuple[int, int]:
    rows, columns = model.backbone.patch_embed.grid_size  # type: ignore[misc]
    return rows, columns
