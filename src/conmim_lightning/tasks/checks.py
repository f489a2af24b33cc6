"""Checks of a task against its data and its weights."""

from collections.abc import Sequence

import torch
from lightning import LightningDataModule
from lightning.pytorch.utilities import rank_zero_warn
from torch import Tensor, nn

from conmim_lightning.models.backbones import Backbone, info_of
from conmim_lightning.models.dense_vit import DenseVit
from conmim_lightning.models.init import init_head

_BATCH_NORMS = (nn.BatchNorm2d, nn.SyncBatchNorm)


def check_classifier(model: Backbone, image: Sequence[int], scores: Sequence[int], num_classes: int) -> None:
    """Raise ValueError unless the data has the image shape and the number of classes of the model.

    Args:
        model: timm vision Transformer.
        image: shape of an image of the data, (C, H, W).
        scores: shape of the scores of an image, (number of classes of the data,).
        num_classes: number of classes of the task.
    """
    embed = model.patch_embed
    needed = (embed.get_submodule("proj").get_parameter("weight").shape[1], *embed.img_size)  # type: ignore[misc]
    if tuple(image) != needed:
        raise ValueError(f"the data's images are of shape {tuple(image)}, the backbone takes {needed}")
    check_classes(scores, num_classes)


def check_dense(maps: DenseVit, image: Sequence[int], scores: Sequence[int], num_classes: int) -> None:
    """Raise ValueError unless the data has the image shape and the number of classes of the model.

    Args:
        maps: backbone of the model.
        image: shape of a training image of the data, (C, S, S).
        scores: shape of the scores of a pixel, (number of classes of the data,).
        num_classes: number of classes of the task.
    """
    channels = maps.backbone.patch_embed.get_submodule("proj").get_parameter("weight").shape[1]
    needed = (channels, maps.size, maps.size)
    if tuple(image) != needed:
        raise ValueError(f"the data's images are of shape {tuple(image)}, the model takes {needed}")
    check_classes(scores, num_classes)


def check_classes(scores: Sequence[int], num_classes: int) -> None:
    """Raise ValueError unless the data has as many classes as the task."""
    if tuple(scores) != (num_classes,):
        raise ValueError(f"the data has {scores[0]} classes, the task {num_classes}")


def check_batch_norm(model: nn.Module, batch_size: int, world_size: int) -> None:
    """Raise ValueError for batch norm over a single image, which is undefined after pooling to one cell."""
    synchronised = any(isinstance(module, nn.SyncBatchNorm) for module in model.modules())
    images = batch_size * (world_size if synchronised else 1)
    pools = any(isinstance(module, nn.AdaptiveAvgPool2d) for module in model.modules())
    if images < 2 and pools and any(isinstance(module, _BATCH_NORMS) for module in model.modules()):
        raise ValueError(
            "batch norm needs at least 2 images: data.batch_size=2 or more, trainer.sync_batchnorm=true on several "
            "devices, or task.model.head.norm=group"
        )


def reset_other_head(model: Backbone, classes: Sequence[str]) -> None:
    """Re-initialise a classifier that was trained on other classes, or on the same classes in another order.

    Args:
        model: timm model with a classifier, built by ``models.backbones``.
        classes: names of the data's classes, in order.
    """
    info = info_of(model)
    if info is None:
        return
    if info.classes and list(info.classes) != list(classes):
        rank_zero_warn(
            f"the classifier of the weights has {len(info.classes)} classes, {', '.join(info.classes[:3])}, ..., and "
            f"the data has others or another order, {', '.join(list(classes)[:3])}, ...; it is re-initialised"
        )
        init_head(model.get_submodule("head"), info.head_init_scale)
    info.classes = list(classes)


def balanced_weights(counts: Sequence[int]) -> Tensor:
    """Return (K,) class weights in inverse proportion to the images of each class, with mean 1 over all images.

    Args:
        counts: training images per class, >= 1.
    """
    images = torch.tensor([int(count) for count in counts], dtype=torch.float32)
    return images.sum() / (len(images) * images)


def warn_normalization(model: Backbone, data: LightningDataModule) -> None:
    """Warn if the weights were trained with another image normalisation than that of the data."""
    info = info_of(model)
    for name in ("mean", "std") if info else ():
        trained, given = getattr(info, name), getattr(data, name, None)
        if (
            trained is not None
            and given is not None
            and not torch.allclose(torch.tensor(trained), torch.tensor(given), atol=1e-3)
        ):
            rank_zero_warn(
                f"the weights were trained on images of {name} {list(trained)}; data.{name} is {list(given)}"
            )
