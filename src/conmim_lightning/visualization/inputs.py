"""The model and the images of a picture."""

from collections.abc import Sequence
from typing import Any, NamedTuple, cast

import torch
from torch import Tensor

from conmim_lightning.data.images.files import BrokenImageError
from conmim_lightning.data.samplers.epoch import SampleKey
from conmim_lightning.data.sources.base import IndexedSource
from conmim_lightning.inference.models import LoadedEncoder


class Inputs(NamedTuple):
    """Images as a model takes them.

    Attributes:
        names: names of the images.
        images: (B, C, S, S) normalised.
        shown: B images (S, S, 3) in [0, 1].
    """

    names: list[str]
    images: Tensor
    shown: list[Tensor]


def read_inputs(model: LoadedEncoder, source: IndexedSource, count: int) -> tuple[Inputs, list[str]]:
    """Read evenly spaced images; also return the names of those that cannot be read, with the reason.

    Args:
        model: model whose preprocessing is used.
        source: source of the images.
        count: number of images, >= 1.

    Raises:
        ValueError: none can be read, or count is below 1.
    """
    if count < 1:
        raise ValueError(f"pictures must be at least 1, got {count}")
    names, images, broken = [], [], []
    for index in evenly_spaced(len(source), count):
        try:
            images.append(model.transform(source.read(SampleKey(0, index), model.transform.decoder.max_bytes)))
            names.append(source.name(index))
        except (BrokenImageError, ValueError) as error:
            broken.append(f"{source.name(index)}: {error}")
    if not images:
        raise ValueError(f"none of the images can be read; the first: {broken[0]}")
    stacked = torch.stack(images)
    return Inputs(names, stacked, [as_shown(model, image) for image in stacked]), broken


def evenly_spaced(total: int, most: int) -> list[int]:
    """Return at most ``most`` of the indices of ``total`` images, evenly spaced."""
    count = min(most, total)
    return [position * total // count for position in range(count)]


def as_shown(model: LoadedEncoder, image: Tensor) -> Tensor:
    """Return a normalised (C, H, W) image as (H, W, 3) in [0, 1]."""
    mean, std = (torch.tensor(values)[:, None, None] for values in (model.transform.mean, model.transform.std))
    pixels = (image.cpu() * std + mean).clamp(0, 1)
    return (pixels[:3] if len(pixels) > 2 else pixels[:1]).expand(3, -1, -1).permute(1, 2, 0)


def patch_of(model: LoadedEncoder, patch: Sequence[int] | None) -> tuple[int, int]:
    """Return row and column of a patch; None for the central patch.

    Raises:
        ValueError: there is no such patch.
    """
    rows, columns = cast(tuple[int, int], cast(Any, model.backbone).patch_embed.grid_size)
    if patch is None:
        return rows // 2, columns // 2
    if len(patch) != 2 or not (0 <= patch[0] < rows and 0 <= patch[1] < columns):
        raise ValueError(f"patch must be [row, column] within {rows} x {columns} patches, got {list(patch)}")
    return patch[0], patch[1]
