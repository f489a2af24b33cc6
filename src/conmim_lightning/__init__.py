"""ConMIM pre-training of vision Transformers, with PyTorch Lightning.

The names in ``__all__`` are the Python API. Each is imported on first use, so ``import conmim_lightning`` is quick.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from conmim_lightning.callbacks.checkpoint import RunCheckpoint
    from conmim_lightning.callbacks.online_probe import OnlineProbe
    from conmim_lightning.config.compose import configure
    from conmim_lightning.data.datamodules.classification import ClassificationDataModule
    from conmim_lightning.data.datamodules.dense import DenseDataModule
    from conmim_lightning.data.datamodules.imagenet import ImageNetDataModule
    from conmim_lightning.data.datamodules.pretrain import PretrainDataModule
    from conmim_lightning.inference.load import load
    from conmim_lightning.losses.patch_info_nce import PatchInfoNCE
    from conmim_lightning.models.backbones import timm_vit, vit, vit_base, vit_large, vit_small
    from conmim_lightning.models.conmim import ConMIM
    from conmim_lightning.optim.recipe import PretrainSchedule, Schedule
    from conmim_lightning.tasks.classification import ClassificationTask
    from conmim_lightning.tasks.detection import DetectionTask
    from conmim_lightning.tasks.frozen_probe import FrozenTask
    from conmim_lightning.tasks.linear_probe import LinearProbeTask
    from conmim_lightning.tasks.pretrain import PretrainTask
    from conmim_lightning.tasks.segmentation import SegmentationTask

_MODULES = {
    "ClassificationDataModule": "data.datamodules.classification",
    "ClassificationTask": "tasks.classification",
    "ConMIM": "models.conmim",
    "DenseDataModule": "data.datamodules.dense",
    "DetectionTask": "tasks.detection",
    "FrozenTask": "tasks.frozen_probe",
    "ImageNetDataModule": "data.datamodules.imagenet",
    "LinearProbeTask": "tasks.linear_probe",
    "OnlineProbe": "callbacks.online_probe",
    "PatchInfoNCE": "losses.patch_info_nce",
    "PretrainDataModule": "data.datamodules.pretrain",
    "PretrainSchedule": "optim.recipe",
    "PretrainTask": "tasks.pretrain",
    "RunCheckpoint": "callbacks.checkpoint",
    "Schedule": "optim.recipe",
    "SegmentationTask": "tasks.segmentation",
    "configure": "config.compose",
    "load": "inference.load",
    "timm_vit": "models.backbones",
    "vit": "models.backbones",
    "vit_base": "models.backbones",
    "vit_large": "models.backbones",
    "vit_small": "models.backbones",
}

__all__ = [
    "ClassificationDataModule",
    "ClassificationTask",
    "ConMIM",
    "DenseDataModule",
    "DetectionTask",
    "FrozenTask",
    "ImageNetDataModule",
    "LinearProbeTask",
    "OnlineProbe",
    "PatchInfoNCE",
    "PretrainDataModule",
    "PretrainSchedule",
    "PretrainTask",
    "RunCheckpoint",
    "Schedule",
    "SegmentationTask",
    "configure",
    "load",
    "timm_vit",
    "vit",
    "vit_base",
    "vit_large",
    "vit_small",
]


def __getattr__(name: str) -> Any:
    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_MODULES[name]}"), name)
