"""What all tasks with labelled images share."""

from collections.abc import Sequence
from typing import Any

import torch
from lightning.pytorch.utilities import rank_zero_warn
from torch import Tensor, nn

from conmim_lightning.models.initial import draw_head


def check_labelled(model: Any, image: Sequence[int], scores: Sequence[int], num_classes: int) -> None:
    """Raise ValueError unless images and classes of the data are those that the model was made for.

    Args:
        model: timm vision Transformer.
        image: shape of an image, (C, H, W).
        scores: shape of an image's scores, (number of classes,).
        num_classes: that the task counts.
    """
    embed = model.patch_embed
    needed = (embed.proj.weight.shape[1], *embed.img_size)
    if tuple(image) != needed:
        raise ValueError(f"the data's image is of shape {tuple(image)}, the backbone takes {needed}")
    if tuple(scores) != (num_classes,):
        raise ValueError(f"the data has {scores[0]} classes, the task {num_classes}")


def start_head_for(model: Any, classes: Sequence[str]) -> None:
    """Draw a classifier anew that was trained on other classes, or on the same ones in another order.

    Args:
        model: timm model with a classifier, made by ``models.backbones``.
        classes: names of the data's classes, in order.
    """
    known = getattr(model, "trained_classes", None)
    if known and list(known) != list(classes):
        rank_zero_warn(
            f"the weights' classifier knows {len(known)} classes, {', '.join(known[:3])}, ..., and the data has others "
            f"or another order, {', '.join(list(classes)[:3])}, ...; the classifier is drawn anew"
        )
        draw_head(model, model.head_scale)
    model.trained_classes = list(classes)


def balanced_weights(counts: Sequence[int]) -> Tensor:
    """(K,) weights in inverse proportion to the images of a class, of mean 1 over all images.

    Args:
        counts: training images of each class, >= 1.
    """
    images = torch.tensor([int(count) for count in counts], dtype=torch.float32)
    return images.sum() / (len(images) * images)


def warn_of_normalisation(model: nn.Module, data: Any) -> None:
    """Warn if weights were trained on images that were normalised otherwise than these."""
    for name, theirs in zip(("mean", "std"), getattr(model, "trained_on", (None, None)), strict=True):
        mine = getattr(data, name)
        if theirs is not None and not torch.allclose(torch.tensor(theirs), torch.tensor(mine), atol=1e-3):
            rank_zero_warn(f"the weights were trained on images of {name} {list(theirs)}; data.{name} is {list(mine)}")
