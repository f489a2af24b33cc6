"""What tasks with an answer for every place share."""

from collections.abc import Sequence
from typing import Any

from torch import nn

_BATCH_NORMS = (nn.BatchNorm2d, nn.SyncBatchNorm)


def check_dense(maps: Any, image: Sequence[int], scores: Sequence[int], num_classes: int) -> None:
    """Raise ValueError unless images and classes of the data are those that the model was made for.

    Args:
        maps: ``DenseVit`` of the model.
        image: shape of an image to train on, (C, S, S).
        scores: shape of the scores of a place, (number of classes,).
        num_classes: that the task counts.
    """
    channels = maps.backbone.patch_embed.proj.weight.shape[1]
    needed = (channels, maps.size, maps.size)
    if tuple(image) != needed:
        raise ValueError(f"the data's image is of shape {tuple(image)}, the model takes {needed}")
    if tuple(scores) != (num_classes,):
        raise ValueError(f"the data has {scores[0]} classes, the task {num_classes}")


def check_norms(task: Any, batch_size: int) -> None:
    """Raise ValueError for batch norm over a single image, which is undefined for what is pooled to one cell."""
    synchronised = any(isinstance(module, nn.SyncBatchNorm) for module in task.modules())
    images = batch_size * (task.trainer.world_size if synchronised else 1)
    pools = [module for module in task.modules() if isinstance(module, nn.AdaptiveAvgPool2d)]
    if images < 2 and pools and any(isinstance(module, _BATCH_NORMS) for module in task.modules()):
        raise ValueError(
            "batch norm needs at least 2 images: data.batch_size=2 or more, trainer.sync_batchnorm=true on several "
            "devices, or task.model.head.norm=group"
        )
